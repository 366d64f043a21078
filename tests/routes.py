"""Every request that the platform knows, as a template: which of its parts name a thing, and what else it takes.

The API's come from its document, those of the pages stand here. `tests/test_tenants.py` holds both against the routes,
so that nothing new is left out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
import yaml
from django.conf import settings
from django.http import HttpResponseBase
from django.test import Client

DOCUMENT = yaml.safe_load((settings.BASE_DIR / "openapi.yaml").read_text())


@dataclass(frozen=True)
class Place:
    """A part of a request that names something: a thing by its id, a tag, a task, a person, a place in a list."""

    name: str


@dataclass(frozen=True)
class Ask:
    """A request with places in it. `path` and `query` name theirs in braces."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None

    def __str__(self) -> str:
        query = "&".join(f"{name}={{{value.name}}}" for name, value in self.query.items() if isinstance(value, Place))
        headers = " ".join(self.headers)
        return " ".join(filter(None, [self.method, f"{self.path}?{query}".rstrip("?"), headers]))

    @property
    def places(self) -> list[str]:
        """The names of all places, in order; one that stands several times is there several times."""
        found: list[str] = []
        self.filled(lambda _, name: found.append(name))
        return found

    def filled(self, value_of: Callable[[int, str], Any]) -> "Request":
        """Return the request with the value of each place by its number and name."""
        sent: list[Any] = []

        def fill(part: Any) -> Any:
            if isinstance(part, Place):
                sent.append(value_of(len(sent), part.name))
                return sent[-1]
            if isinstance(part, Mapping):
                return {name: fill(inner) for name, inner in part.items()}
            return [fill(inner) for inner in part] if isinstance(part, list) else part

        path = "".join(str(fill(Place(part[1:-1]) if part[:1] == "{" else part)) for part in _parts(self.path))
        query, headers = urlencode(fill(self.query)), {name: str(text) for name, text in fill(self.headers).items()}
        body = b"" if self.body is None else orjson.dumps(fill(self.body))
        return Request(self.method, f"{path}?{query}".rstrip("?"), headers, body, sent)


def _parts(path: str) -> list[str]:
    """Split a path before and after each part in braces."""
    return path.replace("{", "\0{").replace("}", "}\0").split("\0")


@dataclass(frozen=True)
class Request:
    """A request with values in its places, and which ones these are."""

    method: str
    address: str
    headers: dict[str, str]
    body: bytes
    sent: list[Any]


def send(client: Client, request: Request) -> HttpResponseBase:
    """Send a request to the application of this process."""
    response: Any = client.generic(
        request.method, request.address, request.body, "application/json", headers=request.headers
    )
    assert isinstance(response, HttpResponseBase)
    return response


# --- The API ----------------------------------------------------------------------------------------------------------

# Parameters and fields that name something, and those that do not. A new one has to be put into either.
NAMING = {
    *("flow_id", "flow_execution_id", "task_execution_id", "task_output_id", "id", "organization_id", "tag_ids"),
    *("task_name", "task_execution_idx", "tag", "tag_type", "tags", "cursor", "epoch", "X-Organization"),
    *("Idempotency-Key", "updated_at"),
}
PLAIN = {
    *("page", "page_size", "limit", "since", "version", "sort_field", "sort_direction", "include_run_number"),
    *("include_deleted", "status", "status_exclude", "created_after", "created_before", "updated_after"),
    *("updated_before", "only_stale", "execute_flow"),
    *("display_name", "description", "definition", "input", "output", "error", "summary", "operation", "tag_metadata"),
    *("statuses", "expected", "processing_status", "started_at", "completed_at", "created_at", "modified_by"),
    *("edited_status", "stale_status"),
}
_REPEATED = 2  # items of a batch: what is wrong with one of them must not show what is right with the others


def api_asks() -> Iterator[Ask]:
    """Yield each operation of the API with a place for whatever names something."""
    for path, methods in sorted(DOCUMENT["paths"].items()):
        for method, described in methods.items():
            yield _api_ask(path, method.upper(), described)


def fields_of(ask: Ask) -> set[str]:
    """Return the names of all parameters and of the fields of the body that our schemas know."""

    def inner(part: Any) -> Iterator[str]:
        if isinstance(part, Mapping):
            for name, value in part.items():
                yield name
                if name not in ("definition", "input", "output", "error", "summary", "tag_metadata"):
                    yield from inner(value)
        elif isinstance(part, list):
            for value in part:
                yield from inner(value)

    return {*ask.query, *ask.headers, *inner(ask.body)}


def _api_ask(path: str, method: str, described: Mapping[str, Any]) -> Ask:
    query, headers = {}, {}
    for parameter in described["parameters"]:
        name, example = parameter["name"], parameter["schema"]["examples"][0]
        if parameter["in"] == "query":
            place = f"cursor {path.rpartition('/')[2]}" if name == "cursor" else name
            query[name] = Place(place) if name in NAMING else _as_text(example)
        elif parameter["in"] == "header":
            place = f"key {path.rpartition('/')[2]}" if name == "Idempotency-Key" else name
            headers[name] = Place(place) if name in NAMING else example
    # The examples bound the time to one day, and a status to one: then nothing would be found.
    for name in ("created_after", "created_before", "updated_after", "updated_before", "status", "status_exclude"):
        if method == "GET":
            query.pop(name, None)
    query.pop("version", None)
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    return Ask(method, path, query, headers, _with_places(content["example"]) if content else None)


def _as_text(example: Any) -> str:
    return str(example[0] if isinstance(example, list) else example).replace("True", "true").replace("False", "false")


def _with_places(part: Any) -> Any:
    """Put places into the example of a body, and more items into its batches."""
    if isinstance(part, list):
        return [_with_places(part[0])] * _REPEATED if part and isinstance(part[0], dict) else part
    if not isinstance(part, dict):
        return part
    found = {}
    for name, value in part.items():
        if name == "tag_metadata":
            found[name] = None  # then a tag is named that stands
        elif name == "tag_ids":
            found[name] = [Place("tag_id")]
        elif name in NAMING and not isinstance(value, list):
            found[name] = Place(name)
        else:
            found[name] = value if name == "definition" else _with_places(value)
    return found


# --- The pages --------------------------------------------------------------------------------------------------------

_FLOW, _RUN = "/flows/{flow_id}/", "/executions/{flow_execution_id}/"

# The parameters of each page that name something. Pages that ask for others are found by the names in their code.
_PAGES: dict[str, list[Ask]] = {
    "": [Ask("GET", "/"), Ask("GET", "/", {"page": "2"}), Ask("GET", "/", headers={"X-Fragment": "flow-list"})],
    "flows/<uuid:flow_id>/": [
        Ask("GET", _FLOW),
        Ask("GET", _FLOW, {"tab": "graph"}),
        Ask("GET", _FLOW, {"execution": Place("flow_execution_id")}),
        Ask("GET", _FLOW, {"tag": Place("tags"), "status": "queued", "from": "2026-01-01", "to": "", "zone": "UTC"}),
        Ask("GET", _FLOW, {"cursor": Place("cursor runs")}),
        Ask("GET", _FLOW, headers={"X-Fragment": "run-list"}),
    ],
    "flows/<uuid:flow_id>/export.<str:file_type>": [
        Ask("GET", f"{_FLOW}export.csv", {"tag": Place("tags")}),
        Ask("GET", f"{_FLOW}export.json"),
    ],
    "executions/<uuid:flow_execution_id>/": [Ask("GET", _RUN)],
    "executions/<uuid:flow_execution_id>/snapshot": [
        Ask("GET", f"{_RUN}snapshot"),
        Ask("GET", f"{_RUN}snapshot", {"at": "2026-11-22T08:15:30Z"}),
    ],
    **{
        f"executions/<uuid:flow_execution_id>/{name}.<str:file_type>": [
            Ask("GET", f"{_RUN}{name}.{file_type}") for file_type in ("csv", "json", "none")
        ]
        for name in ("tasks", "history", "tags")
    },
    "review/": [
        Ask("GET", "/review/"),
        Ask("GET", "/review/", {"flow": Place("flow_id"), "reason": "tagged", "task": Place("task_name")}),
        Ask("GET", "/review/", {"show": "decided"}),
        Ask("GET", "/review/", {"show": "decided", "by": Place("person"), "kind": "approved"}),
        Ask("GET", "/review/", {"show": "decided", "cursor": Place("cursor decisions")}),
        Ask("GET", "/review/", headers={"X-Fragment": "review-list"}),
    ],
    "review/export.<str:file_type>": [
        Ask("GET", "/review/export.csv", {"flow": Place("flow_id"), "task": Place("task_name")}),
        Ask("GET", "/review/export.json"),
    ],
    "login/": [Ask("GET", "/login/"), Ask("GET", "/login/", {"next": Place("page")})],
    "logout/": [Ask("GET", "/logout/")],
    "api/schema/": [Ask("GET", "/api/schema/")],
    "api/docs/": [Ask("GET", "/api/docs/")],
}

# What the pages ask of their address, wherever their code does.
PAGE_PARAMETERS = {
    *("at", "by", "cursor", "execution", "flow", "from", "kind", "page", "reason", "show", "status", "tab", "tag"),
    *("task", "to", "zone"),
}


def page_routes() -> set[str]:
    """Return the routes of the pages that have a case."""
    return set(_PAGES)


def page_asks() -> Iterator[Ask]:
    """Yield the requests of the pages."""
    for asks in _PAGES.values():
        yield from asks
