"""The embedded servers: shared, adopted, restarted, private; real processes throughout."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest
import redis

from flowplatform.embedded import EmbeddedError, database_url, owner_database_url, redis_url, secret_key, servers
from flowplatform.embedded.locations import sockets_dir
from tests.leftovers import processes_of
from tests.stack import ROOT, wait_until

USE = """
import pathlib, sys
from flowplatform.embedded import servers
with servers(pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory with a short path, like that of most people; all that ran in it must be gone at the end."""
    data_dir = Path(mkdtemp(prefix="fp-", dir="/tmp")) / "data"
    yield data_dir
    assert processes_of(data_dir) == []
    subprocess.run(["rm", "-rf", data_dir.parent], check=True)


@contextmanager
def user_of(data_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process use the servers for the duration of a with statement."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE, data_dir], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process


def query(data_dir: Path, statement: str, url: str = "") -> list[tuple[object, ...]]:
    with psycopg.connect(url or database_url(data_dir), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


def valkey(data_dir: Path) -> int:
    return int((sockets_dir(data_dir) / "valkey.pid").read_text())


def test_both_servers_answer_on_private_sockets_and_nowhere_else(data_dir: Path) -> None:
    with servers(data_dir), redis.Redis.from_url(redis_url(data_dir)) as broker:
        assert query(
            data_dir, "SELECT current_user, current_database(), current_setting('server_version_num')::int / 10000"
        ) == [("flowplatform_app", "flowplatform", 18)]
        powers = "SELECT rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname ~ '^flow' ORDER BY rolname"
        assert query(data_dir, powers) == [(False, False, True), (False, False, False), (False, False, False)]
        assert query(data_dir, "SHOW listen_addresses") == [("",)]
        assert query(data_dir, "SHOW fsync") == [("on",)]
        assert broker.ping()
        assert broker.config_get("port") == {"port": "0"}
        assert broker.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert stat.S_IMODE(sockets_dir(data_dir).stat().st_mode) == 0o700


def test_the_addresses_need_no_server_and_touch_nothing(data_dir: Path) -> None:
    assert database_url(data_dir) == f"postgresql://flowplatform_app@/flowplatform?host={data_dir}/sockets"
    assert owner_database_url(data_dir) == f"postgresql://flowplatform@/flowplatform?host={data_dir}/sockets"
    assert redis_url(data_dir) == f"unix://{data_dir}/sockets/valkey.sock"
    with servers(data_dir, postgres=False, valkey=False):
        assert not data_dir.exists()


def test_two_users_share_the_servers_and_the_last_one_stops_them(data_dir: Path) -> None:
    with servers(data_dir):
        with user_of(data_dir) as second:
            pids = postmaster(data_dir), valkey(data_dir)
        assert second.returncode == 0
        assert query(data_dir, "SELECT 1") == [(1,)]
        assert (postmaster(data_dir), valkey(data_dir)) == pids
    assert processes_of(data_dir) == []


@pytest.mark.slow
def test_many_who_start_at_once_start_one_pair_of_servers(data_dir: Path) -> None:
    commands = [
        subprocess.Popen([sys.executable, "-c", USE, data_dir], cwd=ROOT, stdin=subprocess.DEVNULL) for _ in range(5)
    ]
    assert [command.wait() for command in commands] == [0] * 5
    assert processes_of(data_dir) == []


def test_servers_of_a_killed_user_are_adopted_by_the_next(data_dir: Path) -> None:
    with user_of(data_dir) as user:
        pids = postmaster(data_dir), valkey(data_dir)
        user.kill()
    assert processes_of(data_dir) != []
    # The next one needs PostgreSQL alone, and still takes care of both.
    with servers(data_dir, valkey=False):
        assert (postmaster(data_dir), valkey(data_dir)) == pids
    assert processes_of(data_dir) == []


def test_after_a_power_cut_the_data_is_there_and_reused_process_ids_do_not_matter(data_dir: Path) -> None:
    with user_of(data_dir) as user:
        query(data_dir, "CREATE TABLE kept AS SELECT 42 AS answer", owner_database_url(data_dir))
        server_user = (data_dir / "postgres").stat().st_uid
        for pid in (user.pid, postmaster(data_dir), valkey(data_dir)):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(data_dir), what="the end of PostgreSQL's other processes")
    become = {"user": server_user} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **become) as innocent:  # type: ignore[call-overload]
        for path in (data_dir / "postgres/postmaster.pid", data_dir / "sockets/.s.PGSQL.5432.lock"):
            _, _, others = path.read_text().partition("\n")
            path.write_text(f"{innocent.pid}\n{others}")
        (data_dir / "sockets/valkey.pid").write_text(f"{innocent.pid}\n")
        with servers(data_dir) as running:
            assert query(data_dir, "SELECT answer FROM kept", owner_database_url(data_dir)) == [(42,)]
            running.check()
        assert innocent.poll() is None
        innocent.kill()


def test_a_server_that_dies_is_noticed(data_dir: Path) -> None:
    with servers(data_dir) as running:
        running.check()
        os.kill(valkey(data_dir), signal.SIGKILL)
        with pytest.raises(EmbeddedError, match=r"^Valkey stopped unexpectedly: .* \(.*/valkey\.log\)\.$"):
            wait_until(running.check, what="the end of Valkey")


def test_a_half_made_database_is_thrown_away(data_dir: Path) -> None:
    half = data_dir / "postgres.new-interrupted"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    with servers(data_dir, valkey=False):
        assert query(data_dir, "SELECT 1") == [(1,)]
    assert not half.exists()


def test_a_path_too_long_or_too_strange_for_a_socket_works_and_leaves_nothing_in_tmp(data_dir: Path) -> None:
    strange = data_dir / ("long" * 20) / 'it\'s a "$HOME", 100% é'
    with servers(strange), redis.Redis.from_url(redis_url(strange)) as broker:
        assert query(strange, "SELECT 1") == [(1,)]
        assert broker.ping()
        assert sockets_dir(strange).parent == Path("/tmp")
    assert not sockets_dir(strange).exists()


def test_a_directory_of_somebody_else_in_tmp_is_refused(data_dir: Path) -> None:
    strange = data_dir / ("long" * 20)
    sockets_dir(strange).symlink_to("/var/tmp")
    try:
        with pytest.raises(EmbeddedError, match="belongs to somebody else"), servers(strange):
            pass
    finally:
        sockets_dir(strange).unlink()


def test_a_data_directory_that_cannot_be_is_one_sentence(data_dir: Path) -> None:
    data_dir.parent.joinpath("file").write_text("")
    below_a_file = data_dir.parent / "file/data"
    sentence = r"^The data directory /.*/file/data cannot be created: Not a directory\.$"
    with pytest.raises(EmbeddedError, match=sentence), servers(below_a_file):
        pass
    with pytest.raises(EmbeddedError, match=sentence):
        secret_key(below_a_file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_directory_is_one_sentence(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o500)
    sentence = r"^The data directory /.* cannot be written: Permission denied\.$"
    with pytest.raises(EmbeddedError, match=sentence), servers(data_dir):
        pass


def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    with servers(data_dir, valkey=False):
        pass
    (data_dir / "postgres/PG_VERSION").write_text("17\n")
    sentence = r"^PostgreSQL does not start: database files are incompatible with server \(/.*\.log\)\.$"
    with pytest.raises(EmbeddedError, match=sentence), servers(data_dir):
        pass


def test_all_who_ask_at_once_get_the_same_private_secret_key(data_dir: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(data_dir), range(8)))
    assert len(keys) == 1
    assert len(keys.pop()) >= 50
    assert [path.name for path in data_dir.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((data_dir / "secret_key").stat().st_mode) == 0o600
