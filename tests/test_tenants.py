"""What belongs to another organization does not exist: by no address, and not to be told from what never was.

Every request that the platform knows (`tests/routes.py`) is sent twice by everybody: with what belongs to another
organization in one of its places, or in all of them, and with what was never issued there. Status, headers, bytes and
the number of SQL statements have to be the same, nothing may change there, and nothing of it may come back.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest
import uuid_utils.compat as uuid_utils
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core import signing
from django.db import connection, models, transaction
from django.http import HttpResponseBase
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver

from executions.models import Flow, FlowExecution
from executions.views import FlowViewSet
from flowplatform import tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import SCOPES, Organization, User
from flowplatform.accounts.services import ensure_member
from flowplatform.cursors import encode_cursor
from flowplatform.urls import api, documentation, pages
from notifications.models import Stream
from tags.models import TaskTag
from tests.builders import make_organization
from tests.cast import Asker, Scene, make_scene, service, signed_in
from tests.routes import (
    DOCUMENT,
    NAMING,
    PAGE_PARAMETERS,
    PLAIN,
    Ask,
    Request,
    api_asks,
    fields_of,
    page_asks,
    page_routes,
    send,
)
from tests.test_odd_requests import client_of

Values = dict[str, Any]

ASKS = [*api_asks(), *page_asks()]
STATIC = ("/api/schema/", "/api/docs/")  # the same for everybody
ADDING = ("task-status", "task-tags", "flows", "flow-executions")  # and change nothing that a request names
KEYED = (*ADDING, "definition", "execute", "task-executions")
OUR_TABLES = ("accounts", "executions", "idempotency", "notifications", "tags")


class World:
    """Two organizations with a bit of everything, and who belongs to ours, or to none."""

    def __init__(self) -> None:
        self.ours, self.theirs = make_organization(), make_organization("theirs-to-know")
        self.owner = signed_in(self.theirs, "admin")
        self.owning_service = service(self.theirs, SCOPES)
        self.values = values_of(self.ours, make_scene(self.ours), "viewer-of-somebody")
        scene = make_scene(self.theirs, tasks=("encrypt", "conceal", "embargo"), tag="disclose")
        self.secrets = values_of(self.theirs, scene, f"admin-of-{self.theirs.slug}")
        self.missing = never_issued(self.secrets)
        self.askers = {
            "nobody": Asker(),
            "who belongs to no organization": signed_in(None, "nobody"),
            **{role: signed_in(self.ours, role) for role in ("viewer", "member", "admin")},
            **{scope: service(self.ours, [scope]) for scope in SCOPES},
            "service": service(self.ours, SCOPES),
        }
        self.askers["member of two organizations"] = signed_in(self.ours, "member", username="member-of-two")
        ensure_member(user=User.objects.get(username="member-of-two"), organization=make_organization(), role="admin")
        self.system = service(None, SCOPES)
        self._use_keys()
        self.marks = self._marks()
        self.kept = rows_of(self.theirs)

    def _use_keys(self) -> None:
        """Let the others use their keys with the very requests that are sent to us."""
        for ask in ASKS:
            if "Idempotency-Key" in ask.headers and ask.path.rpartition("/")[2] in ADDING:
                answer = send(client_of(self.owning_service), filled(ask, self.secrets))
                assert answer.status_code in (200, 201, 204), content_of(answer)

    def _marks(self) -> set[str]:
        """Return what must not be told: all ids of theirs, and every name that only they use."""
        ids = set(re.findall(_UUID, rows_of(self.theirs)))
        assert {self.secrets[name] for name in self.secrets if is_uuid(self.secrets[name])} <= ids
        return ids | {self.theirs.slug, "encrypt", "conceal", "embargo", "disclose"}


@pytest.fixture(scope="module")
def world(undone: None) -> World:
    return World()


def values_of(organization: Organization, scene: Scene, person: str) -> Values:
    """Return what the places of requests may be filled with: what belongs to an organization."""
    flow_id, execution_id = scene.values["flow_id"], scene.values["flow_execution_id"]
    tag = TaskTag.objects.get(flow_execution=execution_id, status="active")
    run = [False, FlowExecution.objects.get(pk=execution_id).created_at.isoformat(), execution_id]
    decision = [tag.created_at.isoformat(), False, str(tag.pk)]
    return {
        **scene.values,
        **{f"cursor {place}": cursor for place, cursor in scene.cursors.items()},
        "cursor runs": encode_cursor(f"runs of {flow_id}", run),
        "cursor decisions": encode_cursor("decisions", decision),
        "tag_id": str(tag.pk),
        "epoch": str(Stream.objects.get(pk=flow_id).epoch),
        "person": person,
        "page": f"/flows/{flow_id}/",
        **{f"key {path}": f"key-of-{organization.slug}-{path}" for path in KEYED},
    }


def never_issued(values: Values) -> Values:
    """Return values of the same form and length that name nothing; times and numbers stay."""
    ids = {text: str(uuid_utils.uuid7()) for text in values.values() if is_uuid(text)}
    names = {"embargo": "unheard", "disclose": "dissolve", "theirs-to-know": "nobodys-at-all"}

    def renamed(value: Any) -> Any:
        for known, unknown in (ids | names).items() if isinstance(value, str) else ():
            value = value.replace(known, unknown)
        return value

    made = {name: renamed(value) for name, value in values.items() if not name.startswith("cursor ")}
    for name, cursor in values.items():
        if name.startswith("cursor "):
            place, after = signing.loads(cursor, salt="flowplatform.cursor")
            after = [renamed(part) for part in after] if isinstance(after, list) else renamed(after)
            made[name] = encode_cursor(renamed(place), after)
    return made


def is_uuid(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(_UUID, value) is not None


# --- What is looked at ------------------------------------------------------------------------------------------------

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What differs from answer to answer, whatever was asked: ids that were just made, times, and tokens of forms.
_FLEETING = re.compile(
    f"{_UUID}|"
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(?:Z|[+]00:00)?|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT|"
    r'(?<=csrfmiddlewaretoken" value=")\w+|(?<=csrftoken=)\w+'
)
_NOT_COMPARED = {"X-Request-ID", "Server-Timing"}
# These count the requests of whoever asks, each one by one, whatever it asks for: that they are there is compared.
_COUNTED = {"RateLimit-Remaining", "RateLimit-Reset"}

Answer = tuple[int, dict[str, str], str]


def answer_of(response: HttpResponseBase, sent: Iterable[Any]) -> Answer:
    """Return status, headers and content, without what was sent and comes back, and what is never the same twice."""
    known = {part for value in sent if isinstance(value, str) for part in (value, value.partition(":")[2]) if part}
    forms = {form for text in known for form in (text, quote(text), quote(quote(text)), html.escape(text))}
    echo = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))) or "(?!)")

    def plain(text: str) -> str:
        return _FLEETING.sub("{fleeting}", echo.sub("{sent}", text))

    headers = {name: plain(text) for name, text in response.headers.items() if name not in _NOT_COMPARED}
    headers |= dict.fromkeys(_COUNTED & headers.keys(), "{counted}")
    headers |= {f"cookie {name}": plain(morsel.OutputString()) for name, morsel in response.cookies.items()}
    content = content_of(response).replace(response.headers["X-Request-ID"], "{request}")
    return response.status_code, headers, plain(content)


def content_of(response: HttpResponseBase) -> str:
    chunks: Any = response if response.streaming else [response.content]  # type: ignore[attr-defined]
    return b"".join(chunks).decode()


def filled(ask: Ask, values: Values, instead: Values | None = None, number: int | None = None) -> Request:
    """Fill the places of a request; with `instead` one of them differently, or all if no number is given."""

    def value_of(place: int, name: str) -> Any:
        return instead[name] if instead is not None and number in (None, place) else values[name]

    return ask.filled(value_of)


def models_with_organization() -> list[type[models.Model]]:
    found = [model for label in OUR_TABLES for model in apps.get_app_config(label).get_models()]
    return [model for model in found if any(field.attname == "organization_id" for field in model._meta.fields)]


@cache
def _rows_statement(but: tuple[str, ...]) -> str:
    """Select every row of an organization, whatever its table but for some, as a text."""
    ways = {
        "accounts_organization": "id = %(id)s",
        "accounts_servicetoken": "service_account_id IN "
        "(SELECT id FROM accounts_serviceaccount WHERE organization_id = %(id)s)",
        "accounts_user": "id IN (SELECT user_id FROM accounts_membership WHERE organization_id = %(id)s)",
        "executions_flowversion": "flow_id IN (SELECT id FROM executions_flow WHERE organization_id = %(id)s)",
        "idempotency_idempotencykey": "owner = %(id)s::text",
        **{model._meta.db_table: "organization_id = %(id)s" for model in models_with_organization()},
    }
    tables = {model._meta.db_table for label in OUR_TABLES for model in apps.get_app_config(label).get_models()}
    assert ways.keys() == tables, "a new table: say how its rows belong to an organization"
    rows = [
        f"SELECT '{table} ' || t::text AS row FROM {table} AS t WHERE {way}"
        for table, way in ways.items()
        if table not in but
    ]
    return f"SELECT string_agg(row, ' ' ORDER BY row) FROM ({' UNION ALL '.join(rows)}) AS everything"


def rows_of(organization: Organization, but: tuple[str, ...] = ()) -> str:
    """Return everything that the database has of an organization, but for some tables."""
    with connection.cursor() as cursor:
        cursor.execute(_rows_statement(but), {"id": organization.pk})
        rows: str = cursor.fetchone()[0]
    return rows


@contextmanager
def unchanged(world: World) -> Iterator[None]:
    """Hold that nothing of theirs changes, and undo what else does."""
    with rolled_back():
        yield
        assert rows_of(world.theirs) == world.kept


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


# --- The walk ---------------------------------------------------------------------------------------------------------


def test_every_route_and_every_parameter_has_a_case() -> None:
    routes = {
        ("/" + str(pattern.pattern).replace("<id:", "{").replace(">", "}"), method.upper())
        for pattern in api
        for method in pattern.callback.actions  # type: ignore[attr-defined]
        if method != "head"  # added by the first request that is answered like GET
    }
    assert {(ask.path, ask.method) for ask in api_asks()} == routes
    shown = {str(pattern.pattern) for pattern in [*pages, *documentation]} - {"admin/"}
    assert page_routes() == shown
    for path, methods in DOCUMENT["paths"].items():
        for method, described in methods.items():
            names = {parameter["name"] for parameter in described["parameters"]}
            assert names <= NAMING | PLAIN, f"{method} {path} has a parameter that nobody has thought of"
    for ask in api_asks():
        assert fields_of(ask) <= NAMING | PLAIN, f"{ask} has a field that nobody has thought of"


def test_every_parameter_of_the_pages_is_known() -> None:
    code = "".join(path.read_text() for path in (settings.BASE_DIR / "flowplatform" / "pages").glob("*.py"))
    read = set(re.findall(r"""(?:GET|query)\.get(?:list)?\(\s*"(\w+)\"""", code))
    assert read | {"from", "to"} == PAGE_PARAMETERS
    named = {name for ask in page_asks() for name in ask.query if ask.path != "/login/"}
    assert named == PAGE_PARAMETERS


@pytest.mark.parametrize("ask", ASKS, ids=str)
def test_the_owner_is_answered(ask: Ask, world: World) -> None:
    """Without this a request that is wrong for everybody would look like one that is refused to strangers."""
    owners = [world.owner, *([world.owning_service, world.system] if ask.path.startswith("/api/") else [])]
    for owner in owners:
        with rolled_back():
            answer = send(client_of(owner), filled(ask, world.secrets))
            text = content_of(answer)
        if answer.status_code == 403:
            assert "A service token with the scope" in text
            continue
        is_fine = answer.status_code < 400 or ask.path.endswith(".none") or ask.path == "/logout/"
        assert is_fine, f"{answer.status_code} {text[:500]}"
        is_of_theirs = "{" in ask.path and not any("cursor" in name for name in ask.places)
        if ask.method == "GET" and is_of_theirs and answer.status_code == 200:
            assert any(mark in text for mark in world.marks)


@pytest.mark.parametrize("ask", ASKS, ids=str)
def test_what_is_theirs_is_answered_like_what_never_was(ask: Ask, world: World) -> None:
    walk(ask, world, {name: asker for name, asker in world.askers.items() if may_differ(ask, name)})


def may_differ(ask: Ask, name: str) -> bool:
    """Leave out those whom a request cannot tell from others: static pages all, and pages for people every token."""
    if ask.path.startswith(STATIC):
        return name == "nobody"
    return ask.path.startswith("/api/") or name not in SCOPES


def walk(ask: Ask, world: World, askers: Mapping[str, Asker], *, singly: bool = True) -> None:
    """Send a request with what is theirs in its places, and hold it against the same with what was never issued.

    All places first; then `singly`, for a person and a program who may do with their own what the request does.
    """
    names = ask.places
    differing = [number for number, name in enumerate(names) if world.secrets[name] != world.missing[name]]
    with unchanged(world):
        send(client_of(world.askers["service"]), filled(ask, world.secrets))
    for who, asker in askers.items():
        (status, _, _), _ = told(filled(ask, world.values), asker, world)
        one_by_one = singly and who in ("member", "service") and len(differing) > 1 and status not in (302, 401, 403)
        for number in [*([None] if differing else ()), *(differing if one_by_one else ())]:
            theirs, missing = (filled(ask, world.values, instead, number) for instead in (world.secrets, world.missing))
            place = "every place" if number is None else f"place {number} ({names[number]})"
            answers = told(theirs, asker, world), told(missing, asker, world)
            if answers[0] != answers[1]:  # a token is remembered for a minute, which may end between the two
                answers = told(theirs, asker, world), told(missing, asker, world)
            assert answers[0] == answers[1], f"{who} can tell what is theirs by {place} of {ask}"


def told(request: Request, asker: Asker, world: World) -> tuple[Answer, int]:
    """Return what somebody learns from a request: the answer, and how many statements it took."""
    undone = rolled_back() if request.method == "GET" else unchanged(world)
    with undone, CaptureQueriesContext(connection) as captured:
        learnt = answer_of(send(client_of(asker), request), request.sent)
        # Of refusals the first, the tenth, the hundredth and so on are recorded, whatever they are about.
        count = sum("INSERT INTO audit_record" not in query["sql"] for query in captured)
    everything = f"{learnt[1]} {learnt[2]}"
    leaked = [mark for mark in world.marks if mark in everything]
    assert not leaked, f"{request} is told {leaked}"
    return learnt, count


@pytest.fixture
def without_second_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the database show everybody's rows to everybody: `tests/test_row_security.py` takes the first wall away."""
    monkeypatch.setattr(Actor, "shown", tenancy.EVERYBODY)


@pytest.mark.usefixtures("without_second_wall")
@pytest.mark.parametrize("ask", [ask for ask in ASKS if ask.places], ids=str)
def test_the_first_wall_stands_by_itself(ask: Ask, world: World) -> None:
    walk(ask, world, {name: world.askers[name] for name in ("admin", "service")}, singly=False)


@pytest.mark.usefixtures("without_second_wall")
def test_the_walk_notices_a_view_that_forgets_whose_rows_these_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ask,) = [ask for ask in api_asks() if ask.path == "/api/flows/{flow_id}" and ask.method == "GET"]
    reader = {"read": world.askers["read"]}
    walk(ask, world, reader)
    monkeypatch.setattr(FlowViewSet, "rows", lambda view: Flow.objects.all())
    with pytest.raises(AssertionError, match="is told"):
        walk(ask, world, reader)


@pytest.mark.usefixtures("without_second_wall")
def test_the_walk_notices_a_look_up_that_costs_more_for_what_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_at_first(view: FlowViewSet, *arguments: Any) -> Flow:
        if Flow.objects.filter(pk=view.path_id("flow_id")).exists():
            assert Flow.objects.count()
        return original(view, *arguments)

    original = FlowViewSet.row_or_404
    (ask,) = [ask for ask in api_asks() if ask.path == "/api/flows/{flow_id}" and ask.method == "GET"]
    monkeypatch.setattr(FlowViewSet, "row_or_404", looked_at_first)
    with pytest.raises(AssertionError, match="can tell"):
        walk(ask, world, {"read": world.askers["read"]})


# --- The admin --------------------------------------------------------------------------------------------------------


def admin_addresses(patterns: Iterable[URLPattern | URLResolver], before: str = "/admin/") -> Iterator[str]:
    """Yield the address of every page of the admin, with `{pk}` where it names a row."""
    for pattern in patterns:
        address = before + re.sub("<(?:path:)?(?:object_id|id)>", "{pk}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from admin_addresses(pattern.url_patterns, address)
        elif "(?P<app_label>" in address:
            yield from (f"{before}{label}/" for label in OUR_TABLES)
        elif "(?P<url>" not in address:  # whatever is no address at all
            yield address


PAGES_OF_ADMIN = sorted(set(admin_addresses(admin.site.get_urls())))
FOR_EVERYBODY = {"login", "logout", "jsi18n", "password_change", "autocomplete", "search"}


def test_the_admin_tells_nothing_of_theirs_to_staff_without_permissions_and_to_members(world: World) -> None:
    staff = signed_in(world.ours, "member", is_staff=True, username="staff-of-ours")
    keys = {model: model_keys(model, world) for model in admin.site._registry}
    for who, asker in {"staff": staff, **{name: world.askers[name] for name in ("admin", "nobody")}}.items():
        for address in PAGES_OF_ADMIN if who == "staff" else [one for one in PAGES_OF_ADMIN if "{pk}" in one]:
            model = next((one for one in keys if f"/{one._meta.app_label}/{one._meta.model_name}/" in address), None)
            for method in ("GET", "POST") if who == "staff" and address != "/admin/logout/" else ("GET",):
                requests = [
                    Request(method, address.replace("{pk}", key), {}, b"", [f"/{key}/"] if key.isdecimal() else [key])
                    for key in keys.get(model, ("", ""))
                ]
                theirs, missing = (told(request, asker, world) for request in requests)
                assert theirs == missing, f"{who}: {method} {address}"
                known = address.split("/")[2] in FOR_EVERYBODY or address == "/admin/"
                assert known or theirs[0][0] in (302, 403, 404, 405), f"{who}: {method} {address}"


def model_keys(model: type[models.Model], world: World) -> tuple[str, str]:
    """Return the key of a row, of theirs where the table has any, and one of the same form that was never issued."""
    rows = model._default_manager.filter(pk__isnull=False)
    names = {field.attname for field in model._meta.fields}
    known = rows.filter(organization_id=world.theirs.pk) if "organization_id" in names else rows
    key = str(known.values_list("pk", flat=True).first() or "1")
    return key, str(uuid_utils.uuid7()) if is_uuid(key) else re.sub(r"\d", "9", key) if key.isdecimal() else key[::-1]
