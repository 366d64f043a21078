"""Requests that no schema describes: texts that are no JSON, NULs, broken encodings, endless numbers, odd headers.

Each one is a documented request with the ids of real rows, right but for its odd values; the answer has to be one of
those documented. `make fuzz` sends more with several odd values, and other ones at every run.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from itertools import islice, product
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import yaml
from django.conf import settings as django_settings
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cast import FUZZ_EXAMPLES, Asker, Cast, Scene, put, rolled_back
from tests.contract import check_form

DOCUMENT = yaml.safe_load((django_settings.BASE_DIR / "openapi.yaml").read_text())
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]

# In a body, as JSON text.
ODD_JSON = [
    *(r'"\u0000"', r'"\ud800"', r'{"\u0000": 1}', r'{"\udfff": 1}', '{"a": 1, "a": 2}', r'"\ufeff"'),
    *("NaN", "-Infinity", "1e400", "-0.0", "9007199254740993", "9" * 40, "9" * 5000),
    *('"' + "x" * 5000 + '"', '"' + "x" * 2**20 + '"', "[" * 17 + "]" * 17, "[" * 5000),
    *("", "null", "[]", "{}", "true", "\ufeff1", "'a'", "// a comment", "1 2", '"'),
]
# In a path or a query, percent-encoded where that matters.
ODD_TEXTS = [
    *("%00", "%ff", "%ed%a0%80", "%f0%9f%98%80", "%", "%2F", "..", "%0d%0aX-Odd: 1", "a" * 300, "a" * 10_000),
    *("9" * 400, "9" * 5000, "-1", "1e3", "1_0", "%ef%bc%91", "%2B1", "1.0", "nan", "infinity"),
    *("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "2026-11-22", "2026-11-22T24:00:00Z", "now"),
    *("{019aa5d4-7c10-7a3e-9f52-6b1d0c8e4a01}", "urn:uuid:019aa5d4-7c10-7a3e-9f52-6b1d0c8e4a01"),
    *("[]", "a&a=b", "a;a=b", ",", "queued,", ":", "a:", ":a", "yes", "null"),
]
ODD_HEADERS = [
    *("", " ", "\xff", "\xe9" * 300, "a" * 256, "a,b", '"a"', "Bearer", "Bearer ", "Basic YTpi", "\t", "-1"),
    *("text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"),
    *("application/x-www-form-urlencoded; charset=latin-1", "application/json; charset=utf-16", "APPLICATION/JSON"),
]
HEADERS = [
    *("Accept", "Accept-Language", "Authorization", "Content-Length", "Content-Type", "Cookie", "Idempotency-Key"),
    *("Origin", "Referer", "X-API-Key", "X-CSRFToken", "X-HTTP-Method-Override", "X-Organization", "X-Request-ID"),
]

Request = dict[str, Any]
Document = dict[str, Any]

odd_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20).map(lambda text: quote(text.encode(errors="replace")))
odd_json = st.sampled_from(ODD_JSON).map(str.encode) | st.binary(max_size=20)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_an_odd_value_in_any_place_is_answered_as_the_document_says(path: str, method: str, cast: Cast) -> None:
    client = client_of(cast.askers["service"])
    for request in spoilt(documented_request(DOCUMENT["paths"][path][method], cast.scenes[0])):
        check(path, method, request, client)


@given(operation=st.sampled_from(OPERATIONS), name=st.sampled_from(["service", "member"]), data=st.data())
@settings(max_examples=FUZZ_EXAMPLES * 20 or 100, derandomize=not FUZZ_EXAMPLES, deadline=None, database=None)
def test_several_odd_values_are_answered_as_the_document_says(
    operation: tuple[str, str], name: str, data: st.DataObject, cast: Cast
) -> None:
    path, method = operation
    request = documented_request(DOCUMENT["paths"][path][method], cast.scenes[0])
    for way in data.draw(st.lists(st.sampled_from([spoil_ids, spoil_query, spoil_header, spoil_body]), min_size=1)):
        request = way(request, data)
    check(path, method, request, client_of(cast.askers[name]))


@cache
def client_of(asker: Asker) -> Client:
    """Return a client with the credentials of an asker. Each new one loads all middleware, which takes its time."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False, headers=dict(asker.headers))
    client.cookies.load(dict(asker.cookies))
    return client


def check(path: str, method: str, request: Request, client: Client) -> None:
    """Send a request to the real application and hold the answer to its form and to the documented statuses."""
    address = f"{path.format(**request['ids'])}?{'&'.join(f'{name}={value}' for name, value in request['query'])}"
    headers, body = request["headers"], request["body"]
    with rolled_back():
        response = client.generic(method.upper(), address, body, "application/json", headers=headers)
    named = {name.lower(): value for name, value in response.headers.items()}
    check_form(response.status_code, named, response.content)
    # With a slash in its path a request is one to an address that no route knows. A body that is too large is refused
    # wherever it is sent, also where none is documented.
    documented = {int(status) for status in DOCUMENT["paths"][path][method]["responses"]} | {404, 413}
    assert response.status_code in documented, f"{method} {address} {request} {response.content.decode()}"


def documented_request(described: Document, scene: Scene) -> Request:
    """Return the documented example of an operation as a request, with the values of a scene in it."""
    places: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
    for parameter in described["parameters"]:
        if parameter["name"] != "cursor":
            value = put(parameter["name"], parameter["schema"]["examples"][0], scene.values)
            places[parameter["in"]][parameter["name"]] = str(value[0] if isinstance(value, list) else value)
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    body = put("", content["example"], scene.values) if content else None
    return {
        "ids": places["path"],
        "query": list(places["query"].items()),
        "headers": places["header"],
        "json": body,
        "body": orjson.dumps(body) if content else b"",
    }


# --- One odd value -----------------------------------------------------------------------------------------------


def spoilt(request: Request) -> Iterator[Request]:
    """Yield the request with odd values in its places, one at a time."""
    for name, odd in some(request["ids"], ODD_TEXTS, step=4):
        yield {**request, "ids": {**request["ids"], name: odd}}
    for name, odd in some([*dict(request["query"]), "cursor", "unknown"], ODD_TEXTS, step=11):
        yield {**request, "query": list({**dict(request["query"]), name: odd}.items())}
    for name, odd in some(HEADERS, ODD_HEADERS, step=23):
        yield {**request, "headers": {**request["headers"], name: odd}}
    for path, odd in some(places_in(request["json"]), ODD_JSON, step=2):
        yield {**request, "body": with_odd(request["json"], path, odd.encode())}


def some(places: Iterable[Any], odd_values: Sequence[str], *, step: int) -> Iterator[tuple[Any, str]]:
    """Return each `step`th pair; all of them for `make fuzz`. Another one of the values comes first in every place."""
    assert len(odd_values) % step, "the same values would be left out in every place"
    return islice(product(places, odd_values), 0, None, 1 if FUZZ_EXAMPLES else step)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of a JSON value and of every value in it."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places_in(item, (*path, key))


def with_odd(value: Any, path: tuple[Any, ...], odd: bytes) -> bytes:
    """Return a JSON value as text, with the odd text in one place."""
    marked = [deepcopy(value)]
    holder: Any = marked
    for key in (0, *path)[:-1]:
        holder = holder[key]
    holder[(0, *path)[-1]] = "ODD"
    return orjson.dumps(marked[0]).replace(b'"ODD"', odd)


# --- Several odd values -------------------------------------------------------------------------------------------


def spoil_ids(request: Request, data: st.DataObject) -> Request:
    return {**request, "ids": {name: data.draw(odd_texts) for name in request["ids"]}}


def spoil_query(request: Request, data: st.DataObject) -> Request:
    names = st.sampled_from([*sorted(dict(request["query"])), "unknown", "page", "limit", "cursor"])
    return {**request, "query": request["query"] + data.draw(st.lists(st.tuples(names, odd_texts), min_size=1))}


def spoil_header(request: Request, data: st.DataObject) -> Request:
    odd = {data.draw(st.sampled_from(HEADERS)): data.draw(st.sampled_from(ODD_HEADERS))}
    return {**request, "headers": {**request["headers"], **odd}}


def spoil_body(request: Request, data: st.DataObject) -> Request:
    path = data.draw(st.sampled_from(list(places_in(request["json"]))))
    return {**request, "body": with_odd(request["json"], path, data.draw(odd_json))}
