"""asyncapi.yaml: valid by itself, in step with the REST API, and exactly what a client of the sockets receives."""

import asyncio
import copy
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from django.conf import settings
from jsonschema import Draft7Validator, FormatChecker
from jsonschema.exceptions import best_match
from pydantic import BaseModel
from pytest_django.plugin import DjangoDbBlocker
from websockets.asyncio.client import ClientConnection, connect

from executions.serializers import FlowExecutionAnswer, TaskExecutionAnswer, TaskOutputAnswer, TaskStatusAnswer
from flowplatform.accounts.models import Organization
from notifications import close_codes
from notifications.serializers import EventAnswer, EventType
from tags.serializers import TaskTagAnswer
from tests.builders import definition, make_execution, make_flow, make_organization, make_token
from tests.conftest import Platform
from tests.test_sockets import frame_from, report, session_cookie, watching

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT: Json = yaml.safe_load((ROOT / "asyncapi.yaml").read_text())
CHANNELS: dict[str, Json] = DOCUMENT["channels"]
CHANNEL: Json = CHANNELS["flow"]
MESSAGES: dict[str, Json] = DOCUMENT["components"]["messages"]
SCHEMAS: dict[str, Json] = DOCUMENT["components"]["schemas"]


# --- Reading the document -------------------------------------------------------------------------------------------


def resolved(node: Json, document: Json = DOCUMENT) -> Json:
    """Follow a reference inside of the document; what is none is returned as it is."""
    if "$ref" not in node:
        return node
    target: Any = document
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return resolved(target, document)


def nodes(node: Any) -> Iterator[Json]:
    """Yield every object of the document, however deep; examples are data and left out."""
    if isinstance(node, dict):
        yield node
        node = [value for key, value in node.items() if key != "examples"]
    for child in node if isinstance(node, list) else ():
        yield from nodes(child)


def at(path: str, node: Any = DOCUMENT) -> Iterator[Json]:
    """Yield what is at a path of the document; `*` stands for every key or index. References are left out."""
    first, _, rest = path.partition("/")
    if not first:
        if "$ref" not in node:
            yield node
        return
    inner = list(node.values()) if isinstance(node, dict) else node
    for child in inner if first == "*" else [node[first]]:
        yield from at(rest, child)


def subschemas(schema: Json) -> Iterator[Json]:
    """Yield a schema and every schema inside of it."""
    yield schema
    items = [schema["items"]] if "items" in schema else []
    for inner in [*schema.get("properties", {}).values(), *items, *schema.get("oneOf", ())]:
        yield from subschemas(inner)


def every_schema() -> Iterator[Json]:
    for schema in (*SCHEMAS.values(), *at("components/messages/*/payload"), *at("channels/flow/bindings/ws/query")):
        yield from subschemas(schema)


# From the type of an event to the name of its schema.
EVENTS = {
    resolved(option)["properties"]["type"]["const"]: option["$ref"].rpartition("/")[2]
    for option in SCHEMAS["Event"]["oneOf"]
}


# --- Frames are held against schemas that allow the documented fields only ------------------------------------------


def closed(node: Any) -> Any:
    """Return a copy in which every described object has exactly the described fields.

    The document itself leaves objects open, because clients ignore unknown fields; what the tests receive has none.
    """
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    strict = {key: closed(value) for key, value in node.items()}
    if strict.get("type") == "object" and "properties" in strict:
        strict |= {"additionalProperties": False, "required": list(strict["properties"])}
    return strict


CLOSED = closed({"messages": {name: {"payload": message["payload"]} for name, message in MESSAGES.items()}})
CLOSED["schemas"] = closed(SCHEMAS)
FORMATS = FormatChecker(())


@FORMATS.checks("uuid", ValueError)
def is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value


@FORMATS.checks("date-time", ValueError)
def is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def complaint_about(frame: Json, channel: str = "flow") -> str:
    """Return what in a frame of a channel is not as documented, or an empty text."""
    if frame["type"] not in CHANNELS[channel]["messages"]:
        return f"no message is called {frame['type']}"
    for event in frame.get("events", ()):  # each by its own schema first: that tells the place
        if event.get("type") in EVENTS and (complaint := _complaint(event, f"schemas/{EVENTS[event['type']]}")):
            return f"{event['type']}: {complaint}"
    message = CHANNELS[channel]["messages"][frame["type"]]["$ref"].rpartition("/")[2]
    return _complaint(frame, f"messages/{message}/payload")


def _complaint(value: Json, place: str) -> str:
    validator = Draft7Validator({"$ref": f"#/components/{place}", "components": CLOSED}, format_checker=FORMATS)
    error = best_match(validator.iter_errors(value))
    return f"{error.json_path}: {error.message}" if error else ""


EXAMPLES = [
    pytest.param(name, example["payload"], id=f"{name}-{type_}-{example['name']}")
    for name, channel in CHANNELS.items()
    for type_, message in channel["messages"].items()
    for example in resolved(message)["examples"]
]


# --- The document by itself -----------------------------------------------------------------------------------------

# What AsyncAPI 3.0.0 requires and allows, of the objects that the document uses: no package of PyPI ships its schema.
FIELDS = {
    "": ("asyncapi info", "id servers defaultContentType channels operations components"),
    "info": ("title version", "description termsOfService contact license tags externalDocs"),
    "info/license": ("name", "url"),
    "servers/*": (
        "host protocol",
        "protocolVersion pathname description title summary variables security tags externalDocs bindings",
    ),
    "channels/*": (
        "",
        "address messages title summary description servers parameters tags externalDocs bindings",
    ),
    "channels/*/parameters/*": ("", "enum default description examples location"),
    "channels/*/bindings": ("ws", ""),
    "channels/*/bindings/ws": ("", "method query headers bindingVersion"),
    "operations/*": (
        "action channel",
        "title summary description security tags externalDocs bindings traits messages reply",
    ),
    "components": ("messages schemas securitySchemes", ""),
    "components/messages/*": (
        "payload",
        "headers correlationId contentType name title summary description tags externalDocs bindings examples traits",
    ),
    "components/messages/*/examples/*": ("payload", "headers name summary"),
    "components/securitySchemes/*": ("type", "description name in scheme bearerFormat"),
}


@pytest.mark.parametrize("path", FIELDS)
def test_every_object_has_the_fields_that_asyncapi_requires_and_no_unknown_one(path: str) -> None:
    required, allowed = (set(names.split()) for names in FIELDS[path])
    found = list(at(path))
    assert found
    for node in found:
        assert required <= set(node) <= required | allowed


def test_every_reference_leads_somewhere_and_stands_alone() -> None:
    references = [node for node in nodes(DOCUMENT) if "$ref" in node]
    assert references
    for node in references:
        assert node["$ref"].startswith("#/")
        assert resolved(node), node
        assert set(node) == {"$ref"}, "JSON Schema draft 7 ignores what stands beside a reference"


def test_every_schema_is_valid_and_has_no_misspelt_keyword() -> None:
    keywords = {*Draft7Validator.META_SCHEMA["properties"], "discriminator", "externalDocs", "deprecated"}
    for schema in every_schema():
        Draft7Validator.check_schema(schema)
        assert set(schema) <= keywords
        assert set(schema.get("required", ())) <= set(schema.get("properties", ()))
        assert schema.get("format", "uuid") in FORMATS.checkers, "the tests would not look at it"


def test_every_schema_is_used() -> None:
    used = {node["$ref"].rpartition("/")[2] for node in nodes(DOCUMENT) if "$ref" in node}
    assert set(SCHEMAS) <= used


def test_the_parameters_are_those_of_the_address() -> None:
    for channel in CHANNELS.values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


def test_the_platform_sends_every_message_of_every_channel_and_is_sent_none() -> None:
    told = {operation["channel"]["$ref"]: operation for operation in DOCUMENT["operations"].values()}
    assert set(told) == {f"#/channels/{name}" for name in CHANNELS}
    for place, operation in told.items():
        messages = resolved(operation["channel"])["messages"]
        assert operation["action"] == "send"
        assert [node["$ref"] for node in operation["messages"]] == [f"{place}/messages/{name}" for name in messages]
    used = [resolved(node) for channel in CHANNELS.values() for node in channel["messages"].values()]
    assert used == list(MESSAGES.values())


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_message_is_named_by_the_type_of_its_frame(channel: str) -> None:
    for name, node in CHANNELS[channel]["messages"].items():
        message = resolved(node)
        assert message["name"] == name
        assert message["payload"]["properties"]["type"] == {"const": name}


@pytest.mark.parametrize(("channel", "example"), EXAMPLES)
def test_an_example_is_what_the_document_describes(channel: str, example: Json) -> None:
    assert complaint_about(example, channel) == ""


def test_every_frame_and_every_type_of_event_has_an_example_of_its_name() -> None:
    assert [example["name"] for example in MESSAGES["events"]["examples"]] == [
        event["type"] for example in MESSAGES["events"]["examples"] for event in example["payload"]["events"]
    ]
    assert {example["name"] for example in MESSAGES["events"]["examples"]} == set(EVENTS)
    assert all(message["examples"] for message in MESSAGES.values())


@pytest.mark.parametrize(("channel", "example"), EXAMPLES)
def test_a_frame_with_one_field_more_or_one_less_is_noticed(channel: str, example: Json) -> None:
    example = copy.deepcopy(example)
    described = [example, *example.get("flows", ())]
    for event in example.get("events", ()):
        described += [event, event["data"], *event["data"].get("statuses", ()), *event["data"].get("tags", ())]
    for place in described:
        place["surprise"] = 1
        assert "surprise" in complaint_about(example, channel)
        del place["surprise"]
        for field in set(place) - {"type"}:
            value = place.pop(field)
            assert field in complaint_about(example, channel)
            place[field] = value
    assert complaint_about(example, channel) == ""


def test_the_document_names_the_version_and_the_address_that_newcomers_see() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert DOCUMENT["info"]["version"] == project["version"]
    assert DOCUMENT["info"]["license"]["name"] == project["license"]
    assert f"http://{DOCUMENT['servers']['local']['host']}" in (ROOT / "README.md").read_text()


# --- The document and the platform's code ---------------------------------------------------------------------------


def allowed_by(schema: Json, document: Json) -> dict[str, set[str]]:
    """Return which types, formats and values a schema allows, however it puts it."""
    schema = resolved(schema, document)
    types = schema.get("type", [])
    allowed = {
        "types": {types} if isinstance(types, str) else set(types),
        "formats": {schema["format"]} if "format" in schema else set(),
        "values": set(schema.get("enum", ())),
    }
    for option in schema.get("anyOf", ()):
        for what, found in allowed_by(option, document).items():
            allowed[what] |= found
    return allowed


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("FlowExecution", FlowExecutionAnswer),
        ("TaskStatus", TaskStatusAnswer),
        ("TaskExecution", TaskExecutionAnswer),
        ("TaskOutput", TaskOutputAnswer),
        ("TaskTag", TaskTagAnswer),
    ],
)
def test_an_object_is_described_as_the_rest_api_describes_it(name: str, answer: type[BaseModel]) -> None:
    ours, rest = SCHEMAS[name], answer.model_json_schema(mode="serialization")
    assert set(ours["properties"]) == set(rest["properties"])
    assert set(ours["required"]) == set(rest["required"])
    for field, schema in ours["properties"].items():
        assert allowed_by(schema, DOCUMENT) == allowed_by(rest["properties"][field], rest), field


def test_the_events_are_those_of_the_event_log() -> None:
    assert set(EVENTS) == set(get_args(EventType))
    for schema in (SCHEMAS[name] for name in EVENTS.values()):
        assert set(schema["required"]) == set(schema["properties"]) == set(EventAnswer.model_fields)


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_documented_close_codes_are_those_that_the_server_uses(channel: str) -> None:
    description = CHANNELS[channel]["description"]
    documented = [int(code) for code in re.findall(r"^- `(\d+)`:", description, re.MULTILINE)]
    used = {name: value for name, value in vars(close_codes).items() if name.isupper()}
    assert sorted(documented) == sorted(used.values())


def test_the_session_cookie_has_the_documented_name() -> None:
    assert DOCUMENT["components"]["securitySchemes"]["session"]["name"] == settings.SESSION_COOKIE_NAME


# --- The document and a running platform ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames(platform: Platform, django_db_blocker: DjangoDbBlocker) -> list[Json]:
    """What clients received while everything happened in a flow that can happen, and afterwards."""
    with django_db_blocker.unblock():
        token = make_token(make_organization(f"asyncapi-{uuid4().hex}"))
    return asyncio.run(story(platform, token))


async def story(platform: Platform, token: str) -> list[Json]:
    with httpx.Client(base_url=f"{platform.url}/api", headers={"Authorization": f"Bearer {token}"}) as api:
        tasks = definition("extract", "check", check=["extract"])
        flow = call(api, "POST", "/flows", {"display_name": "Documented", "definition": tasks})
        async with watching(platform, flow["id"], token) as socket:
            hello = await frame_from(socket)
            await asyncio.to_thread(change_everything, api, flow["id"])
            live = await frames_until(socket, "flow_execution.deleted", "heartbeat")
    parameters = {"since": hello["offset"], "epoch": hello["epoch"]}
    assert set(parameters) == set(CHANNEL["bindings"]["ws"]["query"]["properties"])
    replayed = await frames_after(platform, flow["id"], token, parameters, "flow_execution.deleted")
    lost = await frames_after(platform, flow["id"], token, {**parameters, "epoch": uuid4()}, "reset")
    return [hello, *live, *replayed, *lost]


def call(api: httpx.Client, method: str, path: str, body: Json | None = None) -> Any:
    response = api.request(method, path, json=body)
    assert response.is_success, (method, path, response.text)
    return response.json() if response.content else None


def change_everything(api: httpx.Client, flow_id: str) -> None:
    """Make every type of event happen through the public API, in most of its forms; a deletion comes last."""
    run, other = (call(api, "POST", "/flow-executions", {"flow_id": flow_id, "input": {"page": 1}}) for _ in range(2))
    call(api, "PATCH", f"/flow-executions/{run['id']}/status?status=running")
    reported = [{"task_name": name, "status": "running"} for name in ("extract", "check")]
    call(api, "POST", f"/flow-executions/{run['id']}/task-status", {"statuses": reported})

    task = {"flow_execution_id": run["id"], "task_name": "extract"}
    poor = {**task, "tag": "unreadable", "tag_type": "review"}
    good = {**task, "tag": "approved", "tag_type": "review", "tag_metadata": {"note": "clean scan"}}
    change_tags(api, {"operation": "add", **poor})
    change_tags(api, {"operation": "remove", **poor}, {"operation": "add", **good})
    change_tags(api, {"operation": "add", **good, "task_name": "check"})
    change_tags(api, *({"operation": "add", **poor, "flow_execution_id": one["id"]} for one in (run, other)))

    call(api, "POST", "/task-executions", {**task, "task_execution_idx": 0, "processing_status": "running"})
    times = {"started_at": "2026-11-20T10:14:02.87+01:00", "completed_at": "2026-11-20T09:14:03Z"}
    ended = {"processing_status": "failed", "input": {"page": 1}, "error": {"text": "torn"}, **times}
    attempt = call(api, "POST", "/task-executions", {**task, "task_execution_idx": 1, **ended})
    downstream = {**task, "task_name": "check", "task_execution_idx": 0, **ended}
    call(api, "POST", "/task-executions", downstream)  # the edit makes it stale
    call(api, "PUT", "/task-executions?execute_flow=true", {**attempt, "output": {"total": 1250.0}})
    call(api, "POST", "/task-outputs", {**task, "summary": "1 invoice", "output": {"total": 1250.0}})
    call(api, "POST", "/task-outputs", {**task, "flow_execution_id": other["id"], "summary": "nothing reported yet"})

    call(api, "POST", f"/flow-executions/{other['id']}/cancel")
    call(api, "DELETE", f"/flow-executions/{run['id']}")


def change_tags(api: httpx.Client, *operations: Json) -> None:
    call(api, "PATCH", "/task-tags", {"tags": list(operations)})


async def frames_after(platform: Platform, flow_id: str, token: str, parameters: Json, expected: str) -> list[Json]:
    query = "?" + "&".join(f"{name}={value}" for name, value in parameters.items())
    async with watching(platform, flow_id, token, query) as socket:
        return await frames_until(socket, expected)


async def frames_until(socket: ClientConnection, *expected: str) -> list[Json]:
    """Return what a client receives until there was a frame or an event of every expected type."""
    received: list[Json] = []
    async with asyncio.timeout(30):
        while not set(expected) <= types_in(received):
            received.append(json.loads(await socket.recv()))
    return received


def events_in(frames: list[Json]) -> list[Json]:
    return [event for frame in frames for event in frame.get("events", ())]


def types_in(frames: list[Json]) -> set[str]:
    return {found["type"] for found in (*frames, *events_in(frames))}


def test_what_clients_receive_is_documented_field_by_field(frames: list[Json]) -> None:
    assert [complaint for frame in frames if (complaint := complaint_about(frame))] == []


def test_every_documented_frame_and_type_of_event_is_received(frames: list[Json]) -> None:
    assert types_in(frames) == {*CHANNEL["messages"], *EVENTS}


def test_a_batch_of_tags_on_several_executions_names_none(frames: list[Json]) -> None:
    assert {event["type"] for event in events_in(frames) if event["flow_execution_id"] is None} == {"task_tags.changed"}


def test_an_edit_tells_of_the_rows_that_it_made_stale(frames: list[Json]) -> None:
    stale = {event["type"] for event in events_in(frames) if event["data"].get("stale_status") == "stale"}
    assert stale == {"task_execution.updated", "task_output.updated"}


def test_an_event_is_replayed_as_it_was_sent(frames: list[Json]) -> None:
    sent = events_in(frames)
    live, replayed = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    assert live == replayed


def headers_of(scheme: Json, organization: Organization) -> dict[str, str]:
    """Return a credential of the organization as a security scheme of the document describes it."""
    if scheme.get("in") == "cookie":
        return {"Cookie": session_cookie(organization)}
    token = make_token(organization, ["read"])
    if scheme.get("in") == "header":
        return {scheme["name"]: token}
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("scheme", DOCUMENT["components"]["securitySchemes"])
def test_each_documented_credential_alone_opens_the_documented_address(platform: Platform, scheme: str) -> None:
    assert {"$ref": f"#/components/securitySchemes/{scheme}"} in DOCUMENT["servers"]["local"]["security"]
    organization = make_organization(f"asyncapi-{uuid4().hex}")
    execution = make_execution(make_flow(organization))
    headers = headers_of(DOCUMENT["components"]["securitySchemes"][scheme], organization)

    async def first_frame(channel: Json) -> Json:
        address = channel["address"].format(flow_id=execution.flow_id, organization_id=organization.pk)
        async with connect(platform.ws_url + address, additional_headers=headers, proxy=None) as socket:
            return await frame_from(socket)

    for name, channel in CHANNELS.items():
        assert complaint_about(asyncio.run(first_frame(channel)), name) == ""


@pytest.mark.usefixtures("committed")
def test_what_watchers_of_an_organization_receive_is_documented_field_by_field(platform: Platform) -> None:
    organization = make_organization(f"asyncapi-{uuid4().hex}")
    execution, token = make_execution(make_flow(organization)), make_token(organization)
    url = platform.ws_url + CHANNELS["organization"]["address"].format(organization_id=organization.pk)

    async def story() -> list[Json]:
        async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None) as socket:
            await asyncio.to_thread(report, platform, token, execution, ("extract", "running"))
            return await frames_until(socket, "changed", "heartbeat")

    received = asyncio.run(story())
    assert [complaint for frame in received if (complaint := complaint_about(frame, "organization"))] == []
    assert types_in(received) == set(CHANNELS["organization"]["messages"])
