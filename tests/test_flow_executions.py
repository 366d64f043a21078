"""Executions of flows: queued, listed, given a status, deleted softly."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions.models import Flow, FlowExecution
from flowplatform.accounts.models import Organization
from notifications.models import Event
from tests.builders import Api, error_of, make_execution, make_flow, make_member, make_token, without_id


@pytest.fixture
def flow(organization: Organization) -> Flow:
    return make_flow(organization)


@pytest.fixture
def service(organization: Organization) -> Api:
    return Api(make_token(organization))


def test_an_execution_is_queued_and_told_to_who_watches(service: Api, flow: Flow) -> None:
    response = service.post("/api/flow-executions", {"flow_id": str(flow.pk), "input": {"folder": "a"}})
    assert response.status_code == 201
    execution = response.json()
    assert set(execution) == {
        "id",
        "flow_id",
        "flow_version",
        "status",
        "input",
        "organization_id",
        "created_at",
        "updated_at",
        "modified_by",
    }
    assert (execution["status"], execution["input"]) == ("queued", {"folder": "a"})
    assert service.get(f"/api/flow-executions/{execution['id']}").json() == execution
    event = Event.objects.get(flow_id=flow.pk)
    assert (event.type, str(event.flow_execution_id), event.data) == (
        "flow_execution.created",
        execution["id"],
        execution,
    )


@pytest.mark.parametrize(
    "body", [{}, {"flow_id": "x"}, {"flow_id": 1}, {"flow_id": str(uuid4()), "input": []}, {"flow_id": None}]
)
def test_an_execution_that_does_not_fit_is_422(service: Api, body: dict[str, object]) -> None:
    assert service.post("/api/flow-executions", body).status_code == 422


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("member", 201), ("admin", 201)])
def test_members_queue_executions_and_viewers_do_not(
    organization: Organization, flow: Flow, role: str, status: int
) -> None:
    person = Api(user=make_member(organization, role))
    assert person.post("/api/flow-executions", {"flow_id": str(flow.pk), "input": {}}).status_code == status


NUMBERS = [0, -1, 2**53 + 1, 2**63 - 1, 1e22, 1e-300, 1.5e308, -0.1, 1e16]


def test_numbers_of_an_input_come_back_as_they_were_and_do_not_grow(service: Api, flow: Flow) -> None:
    response = service.post("/api/flow-executions", {"flow_id": str(flow.pk), "input": {"n": NUMBERS}})
    assert response.status_code == 201
    path = f"/api/flow-executions/{response.json()['id']}"
    assert service.get(path).json()["input"] == {"n": NUMBERS}
    assert service.get(f"/api/flow-executions?flow_id={flow.pk}").json()[0]["input"] == {"n": NUMBERS}
    event = Event.objects.get(flow_id=flow.pk)
    assert event.data["input"] == {"n": NUMBERS}
    many = service.post("/api/flow-executions", {"flow_id": str(flow.pk), "input": {"n": [1e308] * 10_000}})
    assert len(service.get(f"/api/flow-executions/{many.json()['id']}").content) < 100_000
    assert service("DELETE", path).status_code == 204


def test_a_number_beyond_64_bits_is_a_double(service: Api, flow: Flow) -> None:
    body = b'{"flow_id": "%s", "input": {"n": 99999999999999999999}}' % str(flow.pk).encode()
    response = service("POST", "/api/flow-executions", body)
    assert response.json()["input"] == {"n": 1e20}
    assert service.get(f"/api/flow-executions/{response.json()['id']}").json()["input"] == {"n": 1e20}


def test_deletion_is_soft_idempotent_and_told_once(service: Api, flow: Flow) -> None:
    execution = make_execution(flow)
    path = f"/api/flow-executions/{execution.pk}"
    assert [service("DELETE", path).status_code for _ in range(3)] == [204, 204, 204]
    assert service.get(path).status_code == 404
    assert service.get(f"/api/flow-executions?flow_id={flow.pk}").json() == []
    assert Event.objects.filter(type="flow_execution.deleted").count() == 1
    row = FlowExecution.objects.get(pk=execution.pk)
    assert row.status == "deleted"
    assert row.modified_by.startswith("service:")


def test_a_stranger_cannot_see_change_or_delete_an_execution(flow: Flow, stranger: Api) -> None:
    execution, missing = make_execution(flow), uuid4()
    for method, path in (
        ("GET", "/api/flow-executions/{}"),
        ("DELETE", "/api/flow-executions/{}"),
        ("PATCH", "/api/flow-executions/{}/status?status=running"),
    ):
        foreign = stranger(method, path.format(execution.pk))
        assert foreign.status_code == 404
        assert without_id(foreign) == without_id(stranger(method, path.format(missing)))
    assert FlowExecution.objects.get(pk=execution.pk).status == "queued"


def test_a_service_gives_the_execution_its_status(service: Api, organization: Organization, flow: Flow) -> None:
    execution = make_execution(flow)
    path = f"/api/flow-executions/{execution.pk}/status"
    response = service("PATCH", f"{path}?status=running")
    assert (response.status_code, response.json()["status"]) == (200, "running")
    service("PATCH", f"{path}?status=running")
    assert Event.objects.filter(type="flow_execution.updated").count() == 1
    for wrong in ("", "?status=", "?status=deleted", "?status=done"):
        assert service("PATCH", f"{path}{wrong}").status_code == 422
    person = Api(user=make_member(organization, "admin"))("PATCH", f"{path}?status=failed")
    assert (person.status_code, error_of(person)["code"]) == (403, "forbidden")
    service("DELETE", f"/api/flow-executions/{execution.pk}")
    assert service("PATCH", f"{path}?status=failed").status_code == 404


def test_cancelling_asks_the_workers_once_and_leaves_the_finished_alone(service: Api, flow: Flow) -> None:
    execution, finished = make_execution(flow), make_execution(flow)
    service("PATCH", f"/api/flow-executions/{finished.pk}/status?status=completed")
    Event.objects.all().delete()
    for one in (execution, execution, finished):
        assert service("POST", f"/api/flow-executions/{one.pk}/cancel").status_code == 204
    statuses = {pk: FlowExecution.objects.get(pk=pk).status for pk in (execution.pk, finished.pk)}
    assert statuses == {execution.pk: "cancel_requested", finished.pk: "completed"}
    (event,) = Event.objects.all()
    assert (event.type, event.data["status"]) == ("flow_execution.updated", "cancel_requested")


def test_viewers_and_strangers_cannot_cancel(organization: Organization, flow: Flow, stranger: Api) -> None:
    path = f"/api/flow-executions/{make_execution(flow).pk}/cancel"
    assert Api(user=make_member(organization, "viewer"))("POST", path).status_code == 403
    assert stranger("POST", path).status_code == 404
    assert Api(user=make_member(organization, "member"))("POST", path).status_code == 204


@pytest.fixture
def many(flow: Flow) -> list[FlowExecution]:
    """Twelve executions a minute apart, oldest first, every third one running."""
    executions = [make_execution(flow) for _ in range(12)]
    first = executions[0].created_at
    for index, execution in enumerate(executions):
        execution.created_at = first + timedelta(minutes=index)
        FlowExecution.objects.filter(pk=execution.pk).update(
            created_at=execution.created_at,
            updated_at=first + timedelta(minutes=100 - index),
            status="queued" if index % 3 else "running",
        )
    return executions


def numbers(service: Api, flow: Flow, query: str) -> list[int]:
    """Return the run numbers that a query lists."""
    response = service.get(f"/api/flow-executions?flow_id={flow.pk}&include_run_number=true&{query}")
    assert response.status_code == 200, response.content
    return [execution["run_number"] for execution in response.json()]


def test_executions_are_listed_newest_first_ten_a_page(service: Api, flow: Flow, many: list[FlowExecution]) -> None:
    assert numbers(service, flow, "") == list(range(12, 2, -1))
    assert numbers(service, flow, "page=2") == [2, 1]
    response = service.get(f"/api/flow-executions?flow_id={flow.pk}&page_size=4")
    assert 'rel="next"' in response["Link"]
    assert "run_number" not in response.json()[0]
    assert not service.get(f"/api/flow-executions?flow_id={flow.pk}&page_size=12").has_header("Link")


def test_the_last_page_there_can_be_links_to_no_other(
    service: Api, flow: Flow, many: list[FlowExecution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.listing.MAX_PAGE", 2)
    path = f"/api/flow-executions?flow_id={flow.pk}&page_size=1&page="
    assert service.get(f"{path}1").has_header("Link")
    assert not service.get(f"{path}2").has_header("Link")


def test_the_filters_narrow_the_list(service: Api, flow: Flow, many: list[FlowExecution]) -> None:
    def moment(index: int) -> str:
        return many[index].created_at.isoformat().replace("+", "%2B")

    assert numbers(service, flow, "status=running") == [10, 7, 4, 1]
    assert numbers(service, flow, "status=running&status=queued&page_size=50") == list(range(12, 0, -1))
    assert numbers(service, flow, "status_exclude=queued,failed") == [10, 7, 4, 1]
    assert numbers(service, flow, f"created_after={moment(9)}") == [12, 11]
    assert numbers(service, flow, f"created_before={moment(2)}") == [2, 1]
    assert numbers(service, flow, "sort_field=updated_at&page_size=3") == [1, 2, 3]
    assert numbers(service, flow, "sort_direction=asc&page_size=3") == [1, 2, 3]
    assert numbers(service, flow, f"updated_after={moment(0)}&updated_before={moment(0)}") == []


def test_executions_are_found_by_the_tags_of_their_tasks(service: Api, flow: Flow, many: list[FlowExecution]) -> None:
    def tag(index: int, tag_type: str, tag: str, operation: str = "add") -> dict[str, str]:
        pk = str(many[index].pk)
        item = {"flow_execution_id": pk, "task_name": "extract", "tag": tag, "tag_type": tag_type}
        return {"operation": operation, **item}

    changes = [
        tag(0, "review", "approved"),
        tag(1, "review", "rejected"),
        tag(2, "quality", "approved"),
        tag(3, "review", "approved"),
        tag(3, "review", "approved", "remove"),
        tag(0, "quality", "a:b"),
    ]
    assert service("PATCH", "/api/task-tags", {"tags": changes}).status_code == 200
    assert numbers(service, flow, "tags=approved") == [3, 1]
    assert numbers(service, flow, "tags=review:approved") == [1]
    assert numbers(service, flow, "tags=approved&tags=a:b") == [1]
    assert numbers(service, flow, "tags=quality:a:b") == [1]
    assert numbers(service, flow, "tags=nothing") == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "flow_id=x",
        "flow_id={flow}&status=nope",
        "flow_id={flow}&page=10001",
        "flow_id={flow}&page_size=1001",
        "flow_id={flow}&created_after=yesterday",
        "flow_id={flow}&created_after=0001-01-01T00:00:00%2B14:00",
        "flow_id={flow}&created_before=9999-12-31T23:59:59-14:00",
        "flow_id={flow}&sort_field=id",
        "flow_id={flow}&include_run_number=perhaps",
        "flow_id={flow}&surprise=1",
    ],
)
def test_a_query_that_does_not_fit_is_422(service: Api, flow: Flow, query: str) -> None:
    response = service.get(f"/api/flow-executions?{query.format(flow=flow.pk)}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "query"


def test_a_page_costs_the_same_number_of_statements_for_one_and_for_many(
    service: Api, flow: Flow, many: list[FlowExecution]
) -> None:
    def statements(size: int) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert len(numbers(service, flow, f"page_size={size}")) == size
        return len(captured)

    statements(1)  # notes the use of the token
    assert statements(1) == statements(12)
