"""Each row of the corpus gets its documented answer, and nobody else notices. `make abuse` does it in full size."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.abuse.attack import Attack
from tests.abuse.corpus import GROUPS
from tests.abuse.stage import SERVERS, Row, Stage

WHOLE = os.environ.get("ABUSE") == "whole"
FLAT_MIB = 48  # what a body of 1 MiB may become for a moment; those of the corpus are far larger

pytestmark = pytest.mark.timeout(300)


def _rows() -> Iterator[tuple[str, str, Attack]]:
    for group, attacks in GROUPS.items():
        for attack in attacks:
            yield from ((group, server, attack) for server in SERVERS if server in attack.servers)


def _is_slow(server: str, attack: Attack) -> bool:
    return server in attack.slow


@pytest.mark.parametrize(
    ("group", "server", "attack"),
    [pytest.param(*row, id=f"{row[1]}-{row[2].name}") for row in _rows() if WHOLE or not _is_slow(row[1], row[2])],
)
def test_attack(group: str, server: str, attack: Attack, stage: Stage, request: pytest.FixtureRequest) -> None:
    check(stage.run(server, [attack], group=group, test=request.node.nodeid))


@pytest.mark.skipif(WHOLE, reason="each has a test of its own")
def test_slow_clients_of_all_kinds_at_once_hold_nobody_up(stage: Stage) -> None:
    def run(server: str) -> list[Row]:
        attacks = [attack for _, name, attack in _rows() if name == server and _is_slow(server, attack)]
        return stage.run(server, [attack for attack in attacks if attack.seconds <= 30])

    for server in SERVERS:
        stage.server(server)  # one after the other
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        for rows in pool.map(run, SERVERS):
            assert len(rows) >= 6
            check(rows)


def check(rows: list[Row]) -> None:
    for row in rows:
        assert row.got in row.expected.split(" | "), row
        assert row.growth_mib < FLAT_MIB + row.clients - 1, row  # each may keep the mebibyte that it has sent
        assert row.good == "200", row
        assert not row.harmed, row
        assert row.survived, row


def test_every_row_has_a_name_of_its_own() -> None:
    names = Counter((server, attack.name) for _, server, attack in _rows())
    assert not [name for name, count in names.items() if count > 1]
