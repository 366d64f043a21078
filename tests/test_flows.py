"""Flows and their immutable versions."""

from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from executions.definitions import task_names
from executions.models import Flow, FlowExecution, FlowVersion
from flowplatform.accounts.models import Organization
from notifications.models import Stream
from tests.builders import (
    Api,
    definition,
    error_of,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
    without_id,
)


@pytest.fixture
def service(organization: Organization) -> Api:
    return Api(make_token(organization))


def body(**changes: object) -> dict[str, object]:
    tasks = definition("collect", "read", "report", read=["collect"], report=["read", "collect"])
    return {"display_name": "Invoices", "description": "Of a month", "definition": tasks, **changes}


def test_a_flow_is_registered_with_its_first_version(service: Api, organization: Organization) -> None:
    response = service.post("/api/flows", body())
    assert response.status_code == 201
    flow = response.json()
    assert set(flow) == {
        "id",
        "display_name",
        "description",
        "version",
        "definition",
        "organization_id",
        "created_at",
        "updated_at",
        "modified_by",
    }
    assert (flow["version"], flow["organization_id"]) == (1, str(organization.pk))
    assert flow["definition"] == body()["definition"]
    assert flow["modified_by"].startswith("service:")
    assert service.get(f"/api/flows/{flow['id']}").json() == flow
    assert service.get("/api/flows").json() == [flow]
    assert Stream.objects.get(pk=flow["id"]).organization_id == organization.pk  # sockets may wait for the first event


def test_a_description_and_dependencies_may_be_left_out(service: Api) -> None:
    response = service.post("/api/flows", {"display_name": "x", "definition": {"tasks": [{"name": "only"}]}})
    assert response.status_code == 201
    assert response.json()["description"] == ""
    assert response.json()["definition"]["tasks"] == [{"name": "only", "depends_on": []}]


@pytest.mark.parametrize(
    ("tasks", "loc"),
    [
        ([{"name": "a"}, {"name": "a"}], ["definition", "tasks", 1, "name"]),
        ([{"name": "a", "depends_on": ["b"]}], ["definition", "tasks", 0, "depends_on", 0]),
        ([{"name": "a"}, {"name": "b", "depends_on": ["a", "a"]}], ["definition", "tasks", 1, "depends_on", 1]),
        ([{"name": "a", "depends_on": ["a"]}], ["definition", "tasks", 0, "depends_on"]),
    ],
    ids=["name twice", "unknown dependency", "dependency twice", "itself"],
)
def test_a_broken_definition_is_400_and_names_the_place(service: Api, tasks: list[object], loc: list[object]) -> None:
    response = service.post("/api/flows", body(definition={"tasks": tasks}))
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "invalid_definition"
    assert [problem["loc"] for problem in error["details"]] == [loc]
    assert not Flow.objects.exists()


def test_a_cycle_is_named_with_its_tasks(service: Api) -> None:
    circle = definition("a", "b", "c", "d", a=["c"], b=["a"], c=["b"])
    details = error_of(service.post("/api/flows", body(definition=circle)))["details"]
    assert "cycle" in details[0]["msg"]
    assert {"a", "b", "c"} <= set(details[0]["msg"].replace(">", " ").replace("-", " ").split())


def test_many_problems_are_answered_quickly_and_not_all_listed(service: Api) -> None:
    twice = [{"name": "a"}, {"name": "b", "depends_on": ["a"] * 10_000}]
    details = error_of(service.post("/api/flows", body(definition={"tasks": twice})))["details"]
    assert len(details) == 100
    too_many = [{"name": "a"}, {"name": "b", "depends_on": ["a"] * 100_000}]
    assert service.post("/api/flows", body(definition={"tasks": too_many})).status_code == 422
    unknown = service.post("/api/flows", body(**{f"field-{index}": 1 for index in range(900)}))
    assert len(unknown.json()["detail"]) == 100
    unknown = service.post("/api/flows", body(**{f"field-{index}": 1 for index in range(5_000)}))
    assert [each["type"] for each in unknown.json()["detail"]] == ["too_many_problems"]


@pytest.mark.parametrize(
    ("changes", "loc"),
    [
        ({"display_name": ""}, ["body", "display_name"]),
        ({"display_name": "x" * 256}, ["body", "display_name"]),
        ({"description": "x" * 5001}, ["body", "description"]),
        ({"definition": {"tasks": []}}, ["body", "definition", "tasks"]),
        ({"definition": {"tasks": [{"name": "x" * 201}]}}, ["body", "definition", "tasks", 0, "name"]),
        ({"definition": {"tasks": [{"name": "x", "color": 1}]}}, ["body", "definition", "tasks", 0, "color"]),
        ({"surprise": 1}, ["body", "surprise"]),
    ],
)
def test_a_flow_that_does_not_fit_is_422(service: Api, changes: dict[str, object], loc: list[object]) -> None:
    response = service.post("/api/flows", body(**changes))
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == loc


def test_ten_thousand_tasks_are_a_flow_and_one_more_is_422(service: Api) -> None:
    tasks = [{"name": f"t{index}", "depends_on": [f"t{index - 1}"] if index else []} for index in range(10_001)]
    assert service.post("/api/flows", body(definition={"tasks": tasks[:10_000]})).status_code == 201
    assert service.post("/api/flows", body(definition={"tasks": tasks})).status_code == 422


def test_a_new_definition_is_a_new_version_and_executions_keep_theirs(service: Api) -> None:
    flow = service.post("/api/flows", body()).json()
    old = service.post("/api/flow-executions", {"flow_id": flow["id"], "input": {}}).json()
    replaced = service("PUT", f"/api/flows/{flow['id']}/definition", {"definition": definition("other")})
    assert (replaced.status_code, replaced.json()["version"]) == (200, 2)
    new = service.post("/api/flow-executions", {"flow_id": flow["id"], "input": {}}).json()
    assert (old["flow_version"], new["flow_version"]) == (1, 2)
    assert service.get(f"/api/flow-executions/{old['id']}").json()["flow_version"] == 1

    path = f"/api/flows/{flow['id']}"
    assert service.get(f"{path}?version=1").json()["definition"] == body()["definition"]
    assert service.get(f"{path}?version=2").json() == service.get(path).json()
    assert [service.get(f"{path}?version={wrong}").status_code for wrong in (3, 0, "x")] == [404, 422, 422]

    def report(execution: dict[str, str], task: str) -> int:
        return service.post(f"/api/flow-executions/{execution['id']}/task-status", statuses((task, "x"))).status_code

    assert [report(old, "collect"), report(old, "other"), report(new, "collect"), report(new, "other")] == [
        200,
        400,
        400,
        200,
    ]


def test_a_broken_new_definition_leaves_the_flow_as_it_was(service: Api) -> None:
    flow = service.post("/api/flows", body()).json()
    broken = {"definition": definition("a", a=["b"])}
    assert service("PUT", f"/api/flows/{flow['id']}/definition", broken).status_code == 400
    assert service.get(f"/api/flows/{flow['id']}").json() == flow


def test_the_database_refuses_to_change_a_version(organization: Organization) -> None:
    make_flow(organization)
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        FlowVersion.objects.update(definition={"tasks": []})


def test_the_database_refuses_an_execution_of_a_version_that_its_flow_does_not_have(
    organization: Organization,
) -> None:
    execution = make_execution(make_flow(organization))
    elsewhere = FlowExecution.objects.filter(pk=execution.pk)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(DatabaseError, match="flow_execution_pinned_version"), transaction.atomic():
        elsewhere.update(flow_version=7)


def test_a_foreign_flow_is_the_same_404_as_a_missing_one(organization: Organization, stranger: Api) -> None:
    flow, missing = make_flow(organization), uuid4()
    for method, path, content in (
        ("GET", "/api/flows/{}", None),
        ("GET", "/api/flows/{}/events", None),
        ("PUT", "/api/flows/{}/definition", {"definition": definition("a")}),
        ("GET", "/api/flow-executions?flow_id={}", None),
    ):
        foreign = stranger(method, path.format(flow.pk), content)
        assert foreign.status_code == 404, path
        assert without_id(foreign) == without_id(stranger(method, path.format(missing), content)), path
    foreign = stranger.post("/api/flow-executions", {"flow_id": str(flow.pk), "input": {}})
    assert without_id(foreign) == without_id(
        stranger.post("/api/flow-executions", {"flow_id": str(missing), "input": {}})
    )
    assert foreign.status_code == 404


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("member", 201), ("admin", 201)])
def test_members_and_admins_register_flows_and_viewers_look(organization: Organization, role: str, status: int) -> None:
    person = Api(user=make_member(organization, role, username=f"{role}-anna"))
    response = person.post("/api/flows", body())
    assert response.status_code == status
    assert person.get("/api/flows").status_code == 200
    if status == 201:
        assert response.json()["modified_by"] == f"user:{role}-anna"


def test_a_token_needs_the_scope_to_register_a_flow(organization: Organization) -> None:
    assert Api(make_token(organization, ["read", "status:write"])).post("/api/flows", body()).status_code == 403


def test_who_acts_in_several_organizations_names_one(organization: Organization) -> None:
    system, other = Api(make_token(None)), make_organization("somewhere-else")
    unnamed = system.post("/api/flows", body())
    assert (unnamed.status_code, "X-Organization" in error_of(unnamed)["message"]) == (400, True)
    assert system.post("/api/flows", body(), **{"X-Organization": "nowhere"}).status_code == 404
    named = system.post("/api/flows", body(), **{"X-Organization": other.slug})
    assert named.json()["organization_id"] == str(other.pk)
    foreign = Api(make_token(organization)).post("/api/flows", body(), **{"X-Organization": other.slug})
    assert foreign.status_code == 404


def test_the_list_of_flows_pages_and_costs_the_same_for_one_and_for_many(service: Api) -> None:
    def statements(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert service.get(path).status_code == 200
        return len(captured)

    service.post("/api/flows", body(display_name="flow 0"))
    one = statements("/api/flows")
    for index in range(1, 12):
        service.post("/api/flows", body(display_name=f"flow {index}"))
    assert statements("/api/flows") == one

    first = service.get("/api/flows?page_size=5")
    assert [flow["display_name"] for flow in first.json()] == [f"flow {index}" for index in (11, 10, 9, 8, 7)]
    assert 'rel="next"' in first["Link"]
    assert "page=2" in first["Link"]
    last = service.get("/api/flows?page_size=5&page=3")
    assert [flow["display_name"] for flow in last.json()] == ["flow 1", "flow 0"]
    assert not last.has_header("Link")
    assert service.get("/api/flows?page=0").status_code == 422
    assert service.get("/api/flows?surprise=1").status_code == 422


def test_task_names_are_right_although_more_versions_are_in_use_than_are_remembered(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.definitions._REMEMBERED", 2)
    flows = [make_flow(organization, f"task-{index}") for index in range(5)]
    versions = [(flow.pk, 1) for flow in flows]
    for _ in range(2):
        for index, version in enumerate(versions):
            assert task_names([version]) == {version: frozenset([f"task-{index}"])}
    assert task_names(versions) == {version: frozenset([f"task-{i}"]) for i, version in enumerate(versions)}
