"""Fixtures: the database of this run, and the platform as real processes on it."""

from collections.abc import Iterator

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, transaction
from pytest_django.plugin import DjangoDbBlocker

from flowplatform.accounts.models import Organization
from flowplatform.embedded.locations import OWNER
from tests import builders
from tests.cast import Cast, make_cast
from tests.chromium import CHROMIUM
from tests.servers import DATA_DIR
from tests.stack import Stack

pytest_plugins = ["tests.browser"]


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """Use the run's own database as it is, so that the platform's processes and the tests see the same rows.

    Its owner migrates it. The tests work as the role that the servers have, and row-level security binds that.
    """
    _platform.manage("migrate", "--verbosity", "0")


@pytest.fixture
def as_owner(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Work as the role that owns the tables, as commands do: for tests that alter or analyze them. Name it first."""
    with django_db_blocker.unblock():
        servers_role = connection.settings_dict["USER"]
        connection.close()
        connection.settings_dict["USER"] = OWNER
        yield
        connection.close()
        connection.settings_dict["USER"] = servers_role


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let a test write for real, for other connections and processes to see. Its rows stay: its tenant is its own."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def undone(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A transaction that stays open while the requests of a module come and go, and is rolled back in the end."""
    for signal in (request_started, request_finished):  # as Django's own client does
        signal.disconnect(close_old_connections)
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(scope="module")
def cast(undone: None) -> Cast:
    """The rows and askers of the fuzz tests."""
    return make_cast()


class Platform(Stack):
    """The running platform, with tokens for its tests."""

    def make_token(self, scopes: list[str] | None = None, organization_slug: str = "tests") -> str:
        arguments = [part for scope in scopes or [] for part in ("--scope", scope)]
        return self.manage("create_service_token", "--organization", organization_slug, "--name", "tests", *arguments)


# One folder for the figures of all its processes, as `manage.py up` has it.
_platform = Platform(DATA_DIR, {"PROMETHEUS_MULTIPROC_DIR": str(DATA_DIR / "figures")})


@pytest.fixture(scope="session")
def platform(django_db_setup: None) -> Iterator[Platform]:
    """Daphne, a worker and beat on the database of this run."""
    _platform.start()
    yield _platform
    _platform.stop()


@pytest.fixture
def without_platform() -> None:
    """Have nobody else relay or sweep: what a fault test sees is the work of its own processes."""
    CHROMIUM.stop()
    _platform.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests in a browser after the others, and those that need the platform gone last."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    names = getattr(item, "fixturenames", ())
    return 2 if "without_platform" in names else 1 if "chromium" in names else 0


@pytest.fixture
def organization(db: None) -> Organization:
    return builders.make_organization()


@pytest.fixture
def stranger(db: None) -> builders.Api:
    """Somebody with every right, in another organization."""
    return builders.Api(builders.make_token(builders.make_organization()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the platform's processes said beside a failure that involved them."""
    report = yield
    if report.failed and "platform" in getattr(item, "fixturenames", ()):
        for name in ("live", "worker", "beat"):
            log = DATA_DIR / f"test-{name}.log"
            if log.exists():
                report.sections.append((f"log of {name}", log.read_text()[-3000:]))
    return report
