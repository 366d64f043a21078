"""`/health/live` and `/health/ready`: whether this process serves, and whether it should be sent requests.

Live asks nobody: a process that answers need not be restarted, whatever else is away. Ready asks what an answer needs.
PostgreSQL is needed: without it, or without its tables, the answer is 503. Valkey is not: answers do not wait for it
and events arrive a little later, so without it a process is degraded, and still 200; as it is when events wait for
long, or when PostgreSQL has no connection to spare, because who serves has kept its own. Taking servers away from a
load balancer for that would make it worse.

Both are for everybody and tell neither names nor numbers. An answer of ready takes less than two seconds, even if
PostgreSQL and Valkey take what is sent and never answer: it is made by a loop of its own, and who asked is not kept.
"""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import orjson
import psycopg
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers
from health_check.base import HealthCheck, HealthCheckResult
from health_check.contrib import redis as contrib
from health_check.exceptions import HealthCheckException, ServiceUnavailable, ServiceWarning
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowplatform import tenancy
from flowplatform.background import BackgroundLoop
from notifications.backlog import LATE, OLDEST

_CHECK_SECONDS = 1.2  # for each check; they run at the same time
_ANSWER_SECONDS = 1.7  # for all of them, whatever they do
_TOO_MANY = re.compile(r"too many|connection slots")  # a refused connection has no SQLSTATE

_loop = BackgroundLoop("health")


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """Answer."""
    return _answer(request, "live", [])


@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Ask PostgreSQL and Valkey, and answer 503 if requests are better sent elsewhere."""
    try:
        results = _loop.run(_checked(), _ANSWER_SECONDS)
    except TimeoutError:
        return _answer(request, "unready", [])
    errors = [result.error for result in results if result.error]
    if not errors:
        return _answer(request, "ready", results)
    is_degraded = all(isinstance(error, ServiceWarning) for error in errors)
    return _answer(request, "degraded" if is_degraded else "unready", results)


@vary_on_headers("Accept")
def _answer(request: HttpRequest, status: str, results: list[HealthCheckResult]) -> HttpResponse:
    """Answer with JSON, or with a page to who asks for one."""
    code = 503 if status == "unready" else 200
    checks = {str(result.check): _told(result.error) for result in results}
    if "text/html" in request.headers.get("Accept", ""):
        return render(None, "flowplatform/health.html", {"status": status, "checks": checks}, status=code)
    return HttpResponse(
        orjson.dumps({"status": status, "checks": checks}), status=code, content_type="application/json"
    )


def _told(error: HealthCheckException | None) -> dict[str, Any]:
    if error is None:
        return {"status": "ok", "message": None}
    return {"status": "degraded" if isinstance(error, ServiceWarning) else "failed", "message": error.message}


# --- The checks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the database says of itself, asked once for all checks: its migrations, and how long its events wait."""

    applied: frozenset[tuple[str, str]] = frozenset()
    oldest: timedelta = timedelta(0)


async def _checked() -> list[HealthCheckResult]:
    facts = asyncio.ensure_future(_ask())
    checks: list[HealthCheck] = [Database(facts), Migrations(facts), Relay(facts), Valkey(client_factory=_valkey)]
    try:
        return await asyncio.gather(*(check.get_result() for check in checks))
    finally:
        facts.cancel()


async def _ask() -> Facts:
    """Ask over a connection of its own: it can be given up at any time, and tells whether one more is to be had.

    How long the oldest event waits is asked of all organizations; whose it is, is not.
    """
    parameters = connection.get_connection_params()
    del parameters["cursor_factory"]  # a synchronous one
    async with await psycopg.AsyncConnection.connect(**parameters) as database:
        try:
            await database.execute("SELECT set_config(%s, %s, true)", [tenancy.SETTING, tenancy.EVERYBODY])
            applied = await (await database.execute("SELECT app, name FROM django_migrations")).fetchall()
            ((oldest,),) = await (await database.execute(OLDEST)).fetchall()
        except psycopg.errors.UndefinedTable:
            return Facts()
        return Facts(frozenset(applied), oldest)


@dataclass
class _OfDatabase(HealthCheck):  # type: ignore[misc]
    """A check of what the database says."""

    facts: "asyncio.Future[Facts]" = field(repr=False)

    async def run(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                facts = await asyncio.shield(self.facts)  # which the others wait for too
        except (psycopg.Error, OSError, TimeoutError) as error:
            self.unanswered(error)
        else:
            self.judge(facts)

    def unanswered(self, error: Exception) -> None:
        """Say what it means that the database said nothing."""
        raise ServiceWarning("not known: the database did not say") from error

    def judge(self, facts: Facts) -> None:
        """Raise a HealthCheckException if something is wrong."""


class Database(_OfDatabase):
    """PostgreSQL answers."""

    def __str__(self) -> str:
        return "database"

    def unanswered(self, error: Exception) -> None:
        if _TOO_MANY.search(str(error)):
            raise ServiceWarning("no connection is to be had beyond those that are kept") from error
        raise ServiceUnavailable("does not answer") from error


class Migrations(_OfDatabase):
    """The database has the tables that this version of the code expects."""

    def __str__(self) -> str:
        return "migrations"

    def judge(self, facts: Facts) -> None:
        if missing := len(_expected() - facts.applied):
            raise ServiceUnavailable(f"{missing} not applied")


@cache
def _expected() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations)


class Relay(_OfDatabase):
    """Events get their numbers: a worker or a live process is there for it."""

    def __str__(self) -> str:
        return "relay"

    def judge(self, facts: Facts) -> None:
        if facts.oldest > LATE:
            raise ServiceWarning("events wait for longer than they should")


class Valkey(contrib.Redis):  # type: ignore[misc]
    """Valkey answers."""

    def __str__(self) -> str:
        return "valkey"

    async def run(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await super().run()
        except (HealthCheckException, OSError, TimeoutError) as error:
            raise ServiceWarning("does not answer; events arrive later") from error


def _valkey() -> Redis:
    once = Retry(NoBackoff(), 0)
    return Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=once)
