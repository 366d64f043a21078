"""The OpenAPI document: valid, complete, and readable without internet."""

import io

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver

from flowplatform.urls import api


@pytest.fixture(scope="module")
def document() -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    out = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    parsed: dict[str, dict[str, dict[str, dict[str, object]]]] = yaml.safe_load(out.getvalue())
    return parsed


def test_every_route_of_the_api_is_documented(document: dict[str, dict[str, object]]) -> None:
    routes = {"/" + str(pattern.pattern).replace("<id:", "{").replace(">", "}") for pattern in api}
    assert set(document["paths"]) == routes
    assert len(routes) == len(api)


def test_every_operation_has_a_summary_its_errors_and_an_answer(
    document: dict[str, dict[str, dict[str, dict[str, object]]]],
) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            responses = operation["responses"]
            assert operation["summary"], place
            assert isinstance(responses, dict)
            assert {"401", "403", "503"} <= set(responses), place
            assert any(code.startswith("2") for code in responses), place


@pytest.mark.django_db
def test_the_documentation_is_served_without_other_hosts() -> None:
    page = Client().get("/api/docs/").content.decode()
    assert "swagger-ui" in page
    assert "https://" not in page
    assert Client().get("/api/schema/").status_code == 200
    assert get_resolver().resolve("/api/schema/").url_name == "schema"
