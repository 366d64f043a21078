"""The OpenAPI document: valid, complete, with examples that fit, committed, and readable without internet."""

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver
from jsonschema import Draft202012Validator, FormatChecker

from flowplatform.accounts.models import Organization
from flowplatform.urls import api
from tests import builders

ROOT = Path(__file__).resolve().parent.parent
PLACES = [
    pytest.param(path, method, id=f"{method} {path}")
    for path, methods in sorted(
        ("/" + str(pattern.pattern).replace("<id:", "{").replace(">", "}"), pattern.callback.actions)  # type: ignore
        for pattern in api
    )
    for method in methods
]


def generated() -> str:
    out = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    return out.getvalue()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(generated())
    return parsed


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference names, or the value itself if it is none."""
    found = value
    if "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
    return found


def test_the_committed_document_is_what_the_code_says() -> None:
    is_current = (ROOT / "openapi.yaml").read_text() == generated()  # pytest would take minutes to tell the difference
    assert is_current, "openapi.yaml is out of date: run make openapi"


def test_it_is_the_same_every_time() -> None:
    assert generated() == generated()


def test_every_route_of_the_api_is_documented(document: dict[str, Any]) -> None:
    documented = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert documented == {place.values for place in PLACES}


def test_every_operation_is_named_once(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("path", "method"), PLACES)
def test_an_operation_says_what_it_does_and_answers(document: dict[str, Any], path: str, method: str) -> None:
    operation = document["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
    assert operation["security"] == [{"bearer": []}, {"apiKey": []}, {"session": []}]
    assert {"401", "403", "429", "503"} <= set(operation["responses"])
    assert [code for code in operation["responses"] if code.startswith("2")]
    for described in (*operation["parameters"], *operation["responses"].values()):
        assert resolved(document, described)["description"]


@pytest.mark.parametrize(("path", "method"), PLACES)
def test_an_operation_documents_the_errors_that_its_form_makes_possible(
    document: dict[str, Any], path: str, method: str
) -> None:
    operation = document["paths"][path][method]
    names = {parameter["name"] for parameter in operation["parameters"]}
    expected = {"401", "403", "429", "503"}
    if names:
        expected |= {"422"}
    if any(name.endswith("_id") for name in names):
        expected |= {"404"}
    if "cursor" in names:
        expected |= {"400"}
    if "Idempotency-Key" in names:
        expected |= {"409"}
    if "requestBody" in operation:
        expected |= {"400", "404", "413", "415", "422"}
    assert expected <= set(operation["responses"])


@pytest.mark.parametrize(("path", "method"), PLACES)
def test_every_answer_names_its_headers(document: dict[str, Any], path: str, method: str) -> None:
    operation = document["paths"][path][method]
    is_paged = any(parameter["name"] == "page" for parameter in operation["parameters"])
    for status, answer in operation["responses"].items():
        headers = resolved(document, answer)["headers"]
        assert {"X-Request-ID", "Server-Timing"} <= set(headers)
        assert ("Link" in headers) == (is_paged and status == "200")
        assert ("Retry-After" in headers) == (status in ("429", "503"))
        assert ("RateLimit-Remaining" in headers) == (status != "503")
        assert ("WWW-Authenticate" in headers) == (status == "401")
        for header in headers.values():
            assert resolved(document, header)["description"]


# --- Examples -----------------------------------------------------------------------------------------------------

formats = FormatChecker(formats=())


@formats.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value


@formats.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def examples_of(holder: dict[str, Any]) -> list[Any]:
    """Return the examples of a parameter, header or media type, wherever they stand in it."""
    named = [example["value"] for example in holder.get("examples", {}).values()]
    return [*named, *([holder["example"]] if "example" in holder else []), *holder["schema"].get("examples", [])]


def holders(document: dict[str, Any], path: str, method: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield everything of an operation that needs an example, by a name: parameters, body, answers and headers."""
    operation = document["paths"][path][method]
    for parameter in operation["parameters"]:
        yield f"parameter {parameter['name']}", parameter
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "body", content
    for status, answer in operation["responses"].items():
        answer = resolved(document, answer)
        for content in answer.get("content", {}).values():
            yield f"answer {status}", content
        for name, header in answer["headers"].items():
            yield f"header {name} of {status}", resolved(document, header)


@pytest.mark.parametrize(("path", "method"), PLACES)
def test_everything_has_an_example_and_each_one_fits(document: dict[str, Any], path: str, method: str) -> None:
    for name, holder in holders(document, path, method):
        examples = examples_of(holder)
        assert examples, f"{name} has no example"
        # The whole document, so that references into the components are found.
        schema = {"components": document["components"], **holder["schema"]}
        for example in examples:
            Draft202012Validator(schema, format_checker=formats).validate(example)


def test_every_example_of_a_field_fits(document: dict[str, Any]) -> None:
    for title, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            checked = Draft202012Validator(
                {"components": document["components"], **field, "title": f"{title}.{name}"}, format_checker=formats
            )
            for example in field.get("examples", ()):
                checked.validate(example)


def test_the_examples_of_bodies_are_accepted_but_for_the_rows_they_name(
    document: dict[str, Any], organization: Organization
) -> None:
    api = builders.Api(builders.make_token(organization))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
                ids = {parameter["name"]: parameter["schema"]["examples"][0] for parameter in operation["parameters"]}
                response = api(method.upper(), path.format(**ids), body)
                assert response.status_code == (201 if path == "/api/flows" else 404), f"{method} {path}"


def test_errors_are_shown_as_they_are_answered(document: dict[str, Any], organization: Organization) -> None:
    def shown(name: str) -> list[Any]:
        content = document["components"]["responses"][name]["content"]["application/json"]
        return [example["error"] for example in examples_of(content)]

    nobody, somebody = builders.Api(), builders.Api(builders.make_token(organization))
    person = builders.Api(builders.make_token(organization, scopes=["read"]))
    missing = "/api/flow-executions/019aa5d9-02b4-7c61-8e07-3d5f9a2b7c02"
    assert builders.error_of(nobody.get("/api/flows")) in shown("Unauthenticated")
    assert builders.error_of(somebody.get(missing)) in shown("NotFound")
    assert builders.error_of(person.post(f"{missing}/task-status", {})) in shown("Forbidden")
    assert builders.error_of(somebody("POST", "/api/flows", b" " * 2**21)) in shown("PayloadTooLarge")
    text = somebody("POST", "/api/flows", b"{}", content_type="text/plain")
    assert builders.error_of(text) in shown("UnsupportedMediaType")


# --- The pages ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_documentation_is_served_without_other_hosts() -> None:
    page = Client().get("/api/docs/").content.decode()
    assert "swagger-ui" in page
    assert "https://" not in page
    assert Client().get("/api/schema/").status_code == 200
    assert get_resolver().resolve("/api/schema/").url_name == "schema"
