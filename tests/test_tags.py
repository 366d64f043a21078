"""People and services tag tasks: atomic, in order, idempotent, with a trail."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization, ServiceToken
from flowplatform.accounts.services import ensure_member
from notifications.models import Event
from tags.models import TaskTag
from tests.builders import (
    Api,
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
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization, "extract", "classify", "report"))


@pytest.fixture
def reviewer(organization: Organization) -> Api:
    return Api(user=make_member(organization, "member", username="rita"))


def change(operation: str, execution: FlowExecution | UUID | str, **fields: Any) -> dict[str, Any]:
    pk = execution.pk if isinstance(execution, FlowExecution) else execution
    task = {"task_name": "extract", "tag": "approved", "tag_type": "review"}
    return {"operation": operation, "flow_execution_id": str(pk), **task, **fields}


def add(execution: FlowExecution | UUID | str, **fields: Any) -> dict[str, Any]:
    return change("add", execution, **fields)


def remove(execution: FlowExecution | UUID | str, **fields: Any) -> dict[str, Any]:
    return change("remove", execution, **fields)


def apply(api: Api, *operations: dict[str, Any]) -> list[str]:
    response = api("PATCH", "/api/task-tags", {"tags": list(operations)})
    assert response.status_code == 200, response.content
    outcomes = response.json()["tags"]
    assert all(set(outcome) == {"status"} for outcome in outcomes)
    return [outcome["status"] for outcome in outcomes]


def trail(api: Api, execution: FlowExecution, query: str = "&include_deleted=true") -> list[dict[str, Any]]:
    response = api.get(f"/api/task-tags?flow_execution_id={execution.pk}{query}")
    assert response.status_code == 200
    rows: list[dict[str, Any]] = response.json()
    return rows


def test_operations_take_effect_in_order(reviewer: Api, execution: FlowExecution) -> None:
    assert apply(reviewer, add(execution), add(execution)) == ["added", "already_exists"]
    assert apply(reviewer, remove(execution), remove(execution)) == ["removed", "not_found"]
    assert apply(reviewer, add(execution), remove(execution)) == ["added", "removed"]
    apply(reviewer, add(execution))
    before = trail(reviewer, execution, "")
    assert apply(reviewer, remove(execution), add(execution)) == ["removed", "added"]
    after = trail(reviewer, execution, "")
    assert len(before) == len(after) == 1
    assert before[0]["id"] != after[0]["id"]


def test_the_same_batch_again_changes_nothing(reviewer: Api, execution: FlowExecution) -> None:
    batch = [add(execution, tag=f"tag-{index}") for index in range(5)]
    assert apply(reviewer, *batch) == ["added"] * 5
    events = Event.objects.filter(flow_id=execution.flow_id, type="task_tags.changed").count()
    assert apply(reviewer, *batch) == ["already_exists"] * 5
    assert TaskTag.objects.filter(flow_execution=execution).count() == 5
    assert Event.objects.filter(flow_id=execution.flow_id, type="task_tags.changed").count() == events


def test_a_tag_shows_what_when_and_by_whom(reviewer: Api, execution: FlowExecution) -> None:
    apply(reviewer, add(execution, tag_metadata={"note": "fine"}))
    (tag,) = trail(reviewer, execution, "")
    assert set(tag) >= {
        "id",
        "flow_execution_id",
        "task_name",
        "tag",
        "tag_type",
        "tag_metadata",
        "status",
        "created_at",
        "updated_at",
        "modified_by",
        "organization_id",
    }
    assert (tag["task_name"], tag["tag"], tag["tag_type"]) == ("extract", "approved", "review")
    assert (tag["tag_metadata"], tag["status"], tag["modified_by"]) == ({"note": "fine"}, "active", "user:rita")


def test_removal_keeps_the_row_and_says_who_and_when(
    reviewer: Api, organization: Organization, execution: FlowExecution
) -> None:
    apply(reviewer, add(execution))
    service = Api(make_token(organization, ["tags:write", "read"]))
    apply(service, remove(execution))
    apply(reviewer, add(execution))
    assert len(trail(reviewer, execution, "")) == 1
    removed, standing = trail(reviewer, execution)
    assert (removed["status"], removed["created_by"]) == ("deleted", "user:rita")
    assert removed["modified_by"].startswith("service:")
    assert removed["updated_at"] > removed["created_at"]
    assert (standing["status"], standing["modified_by"]) == ("active", "user:rita")


def test_metadata_is_compared_as_json_values(reviewer: Api, execution: FlowExecution) -> None:
    first = add(execution, tag_metadata={"a": 1, "b": [1, {"c": None}]})
    same = add(execution, tag_metadata={"b": [1.0, {"c": None}], "a": 1})
    assert apply(reviewer, first, same) == ["added", "already_exists"]
    others = [None, {}, [], "", 0, False, {"a": "1", "b": [1, {"c": None}]}, {"a": 1, "b": [{"c": None}, 1]}]
    assert apply(reviewer, *(add(execution, tag_metadata=value) for value in others)) == ["added"] * len(others)
    without = add(execution)
    assert apply(reviewer, without, remove(execution, tag_metadata=None)) == ["already_exists", "removed"]


def test_every_part_of_the_identity_is_case_sensitive(reviewer: Api, execution: FlowExecution) -> None:
    changes: list[dict[str, Any]] = [{}, {"tag": "Approved"}, {"tag_type": "Review"}, {"task_name": "classify"}]
    assert apply(reviewer, *(add(execution, **fields) for fields in changes)) == ["added"] * 4


@pytest.mark.parametrize("wrong", ["missing", "foreign", "deleted"])
def test_one_execution_that_is_not_there_refuses_the_whole_batch(
    reviewer: Api, organization: Organization, execution: FlowExecution, wrong: str
) -> None:
    other = make_execution(make_flow(make_organization() if wrong == "foreign" else organization))
    if wrong == "deleted":
        FlowExecution.objects.filter(pk=other.pk).update(status="deleted")
    pk = uuid4() if wrong == "missing" else other.pk
    response = reviewer("PATCH", "/api/task-tags", {"tags": [add(execution), add(pk)]})
    missing = reviewer("PATCH", "/api/task-tags", {"tags": [add(uuid4())]})
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert without_id(response) == without_id(missing)
    assert not TaskTag.objects.exists()


def test_an_unknown_task_and_an_unknown_operation_are_400_with_their_indexes(
    reviewer: Api, execution: FlowExecution
) -> None:
    unknown = reviewer("PATCH", "/api/task-tags", {"tags": [add(execution), add(execution, task_name="nope")]})
    assert unknown.status_code == 400
    assert error_of(unknown)["details"] == [{"index": 1, "task_name": "nope"}]
    wrong = reviewer("PATCH", "/api/task-tags", {"tags": [change("replace", execution), add(execution)]})
    assert wrong.status_code == 400
    assert error_of(wrong)["details"] == [{"index": 0, "operation": "replace"}]
    assert not TaskTag.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": ""},
        {"tag": "x" * 201},
        {"tag_type": "x" * 101},
        {"task_name": "x" * 201},
        {"tag_metadata": "x" * 4097},
        {"tag_metadata": {"n": 2**53 + 1}},
        {"tag_metadata": {"a\0b": 1}},
        {"flow_execution_id": "x"},
        {"surprise": 1},
    ],
)
def test_an_operation_that_does_not_fit_is_422_and_names_the_place(
    reviewer: Api, execution: FlowExecution, fields: dict[str, Any]
) -> None:
    response = reviewer("PATCH", "/api/task-tags", {"tags": [add(execution), {**add(execution), **fields}]})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][:3] == ["body", "tags", 1]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_has_1_to_100_operations(reviewer: Api, execution: FlowExecution, count: int) -> None:
    assert reviewer("PATCH", "/api/task-tags", {"tags": [add(execution)] * count}).status_code == 422


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("member", 200), ("admin", 200)])
def test_members_and_admins_tag_and_viewers_look(
    organization: Organization, execution: FlowExecution, role: str, status: int
) -> None:
    person = Api(user=make_member(organization, role))
    assert person("PATCH", "/api/task-tags", {"tags": [add(execution)]}).status_code == status
    assert person.get(f"/api/task-tags?flow_execution_id={execution.pk}").status_code == 200


def test_a_token_needs_the_scope_to_tag(organization: Organization, execution: FlowExecution) -> None:
    for scopes, status in ((["read", "status:write", "executions:write"], 403), (["tags:write"], 200)):
        api = Api(make_token(organization, scopes))
        assert api("PATCH", "/api/task-tags", {"tags": [add(execution)]}).status_code == status


def test_a_viewer_of_one_organization_and_member_of_another_tags_only_in_the_other(
    organization: Organization, execution: FlowExecution
) -> None:
    other = make_organization()
    person = make_member(organization, "viewer")
    ensure_member(user=person, organization=other, role="member")
    mine = make_execution(make_flow(other))
    api = Api(user=person)
    assert api("PATCH", "/api/task-tags", {"tags": [add(mine), add(execution)]}).status_code == 403
    assert apply(api, add(mine)) == ["added"]


def test_a_stranger_sees_no_tags(reviewer: Api, execution: FlowExecution, stranger: Api) -> None:
    apply(reviewer, add(execution))
    foreign = stranger.get(f"/api/task-tags?flow_execution_id={execution.pk}")
    missing = stranger.get(f"/api/task-tags?flow_execution_id={uuid4()}")
    assert foreign.status_code == 404
    assert without_id(foreign) == without_id(missing)


def test_the_list_narrows_to_a_task_and_an_unknown_one_is_empty(reviewer: Api, execution: FlowExecution) -> None:
    apply(reviewer, add(execution), add(execution, task_name="classify"))
    assert [tag["task_name"] for tag in trail(reviewer, execution)] == ["extract", "classify"]
    assert [tag["task_name"] for tag in trail(reviewer, execution, "&task_name=classify")] == ["classify"]
    assert trail(reviewer, execution, "&task_name=nope") == []


def test_task_outputs_show_their_live_tags(reviewer: Api, organization: Organization, execution: FlowExecution) -> None:
    worker = Api(make_token(organization))
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "x"), ("classify", "x")))
    apply(reviewer, add(execution), add(execution, tag="gone"), remove(execution, tag="gone"))
    listed = reviewer.get(f"/api/task-outputs?flow_execution_id={execution.pk}").json()["task_outputs"]
    tags = {output["task_name"]: [tag["tag"] for tag in output["tags"]] for output in listed}
    assert tags == {"extract": ["approved"], "classify": []}
    one = next(output for output in listed if output["task_name"] == "extract")
    assert reviewer.get(f"/api/task-outputs/{one['id']}").json() == one


def test_a_batch_over_many_flows_publishes_one_event_for_each(reviewer: Api, organization: Organization) -> None:
    first, second = make_flow(organization), make_flow(organization)
    executions = [make_execution(first), make_execution(first), make_execution(second)]
    apply(reviewer, *(add(execution) for execution in executions), remove(executions[2]))
    events = Event.objects.filter(type="task_tags.changed", organization_id=organization.pk).order_by("id")
    assert {event.flow_id for event in events} == {first.pk, second.pk}
    by_flow = {event.flow_id: event for event in events}
    assert len(events) == 2
    assert by_flow[first.pk].flow_execution_id is None
    assert by_flow[second.pk].flow_execution_id == executions[2].pk
    assert [tag["status"] for tag in by_flow[second.pk].data["tags"]] == ["deleted"]
    assert by_flow[first.pk].data["tags"] == [trail(reviewer, execution)[0] for execution in executions[:2]]


def seen(execution: FlowExecution, *tag_ids: str, **fields: Any) -> dict[str, Any]:
    """What a client saw of the task `extract`: the ids of its tags of the type `review`."""
    task = {"flow_execution_id": str(execution.pk), "task_name": "extract", "tag_type": "review"}
    return {**task, "tag_ids": list(tag_ids), **fields}


def decide(api: Api, expected: list[dict[str, Any]], *operations: dict[str, Any]) -> Any:
    return api("PATCH", "/api/task-tags", {"tags": list(operations), "expected": expected})


def test_who_decides_on_what_somebody_changed_meanwhile_is_told_who_it_was_and_changes_nothing(
    reviewer: Api, organization: Organization, execution: FlowExecution
) -> None:
    other = Api(user=make_member(organization, username="bob"))
    assert decide(reviewer, [seen(execution)], add(execution)).status_code == 200
    (approved,) = trail(reviewer, execution)

    refusal = decide(other, [seen(execution)], add(execution, tag="rejected"), add(execution, task_name="report"))
    assert refusal.status_code == 409
    error = error_of(refusal)
    assert error["code"] == "conflict"
    (difference,) = error["details"]
    assert difference["task_name"] == "extract"
    assert difference["tags"] == [approved]
    assert difference["last_change"] == {**approved, "removed": False}
    assert trail(reviewer, execution) == [approved]

    change_of_mind = remove(execution), add(execution, tag="rejected")
    assert decide(other, [seen(execution, approved["id"])], *change_of_mind).status_code == 200
    assert decide(reviewer, [seen(execution, approved["id"])], add(execution, tag="checked")).status_code == 409


def test_a_removal_meanwhile_is_a_change_too_and_names_who_removed(
    reviewer: Api, organization: Organization, execution: FlowExecution
) -> None:
    apply(reviewer, add(execution))
    (approved,) = trail(reviewer, execution)
    apply(Api(user=make_member(organization, username="bob")), remove(execution))
    refusal = decide(reviewer, [seen(execution, approved["id"])], add(execution, tag="rejected"))
    (difference,) = error_of(refusal)["details"]
    assert difference["tags"] == []
    assert difference["last_change"]["removed"] is True
    assert difference["last_change"]["modified_by"] == "user:bob"


def test_tags_of_another_type_or_task_do_not_stand_in_the_way(reviewer: Api, execution: FlowExecution) -> None:
    apply(reviewer, add(execution, tag_type="quality"), add(execution, task_name="report"))
    assert decide(reviewer, [seen(execution)], add(execution)).status_code == 200


def test_an_expectation_about_a_strangers_execution_is_the_404_of_a_missing_one(
    reviewer: Api, execution: FlowExecution
) -> None:
    foreign = make_execution(make_flow(make_organization()))
    answers = [
        decide(reviewer, [seen(execution, flow_execution_id=pk)], add(execution))
        for pk in (str(foreign.pk), str(uuid4()))
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert without_id(answers[0]) == without_id(answers[1])


@pytest.mark.parametrize("text", ['"', "\\", '","', "{}", "NULL", "a,b", "\\x00", " padded ", "é€😀"])
def test_a_tag_may_be_any_text(execution: FlowExecution, reviewer: Api, text: str) -> None:
    fields = {"tag": text, "tag_type": text, "tag_metadata": {text: text}}
    assert apply(reviewer, add(execution, **fields), add(execution)) == ["added", "added"]
    tag = TaskTag.objects.get(tag=text)
    assert (tag.tag_type, tag.tag_metadata) == (text, {text: text})
    [told] = [each for each in Event.objects.latest("id").data["tags"] if each["id"] == str(tag.pk)]
    assert (told["tag"], told["tag_metadata"]) == (text, {text: text})
    assert apply(reviewer, add(execution, **fields), remove(execution, **fields)) == ["already_exists", "removed"]


@pytest.mark.parametrize("task_name", ["extract", "unknown", ""])
def test_a_token_that_ends_between_two_batches_is_401_for_the_second_whatever_is_in_it(
    execution: FlowExecution, organization: Organization, task_name: str
) -> None:
    raw = make_token(organization)
    key = {"Idempotency-Key": "the same"}
    first = Api(raw)("PATCH", "/api/task-tags", {"tags": [add(execution)]}, **key)
    assert first.status_code == 200
    ServiceToken.objects.get(prefix=raw[:8]).revoke()
    for headers in ({}, key):
        batch = {"tags": [add(execution, task_name=task_name, tag="second")]}
        second = Api(raw)("PATCH", "/api/task-tags", batch, **headers)
        assert (second.status_code, error_of(second)["code"]) == (401, "unauthenticated")
    assert TaskTag.objects.filter(organization=organization).count() == 1


def test_one_and_a_hundred_operations_cost_the_same_number_of_statements(
    reviewer: Api, organization: Organization
) -> None:
    executions = [make_execution(make_flow(organization)) for _ in range(10)]

    def statements(count: int, make: Any) -> int:
        batch = [make(executions[index % len(executions)], tag=f"tag-{index}") for index in range(count)]
        with CaptureQueriesContext(connection) as captured:
            apply(reviewer, *batch)
        return len(captured)

    assert statements(1, add) == statements(100, add)
    assert statements(1, remove) == statements(100, remove)


class Model:
    """What tags are, in plain Python."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str, str], int] = {}
        self.rows = 0

    def apply(self, operation: dict[str, Any]) -> str:
        key = (operation["task_name"], operation["tag"], repr(operation["tag_metadata"]))
        if operation["operation"] == "add":
            if key in self.live:
                return "already_exists"
            self.rows += 1
            self.live[key] = self.rows
            return "added"
        return "removed" if self.live.pop(key, None) else "not_found"


operations = st.fixed_dictionaries(
    {
        "operation": st.sampled_from(["add", "remove"]),
        "task_name": st.sampled_from(["extract", "classify"]),
        "tag": st.sampled_from(["approved", "rejected"]),
        "tag_type": st.just("review"),
        "tag_metadata": st.sampled_from([None, {"a": 1}]),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(operations, min_size=1, max_size=15), min_size=1, max_size=4))
def test_any_sequence_of_batches_equals_a_plain_model(
    batches: list[list[dict[str, Any]]], reviewer: Api, organization: Organization
) -> None:
    execution, model = make_execution(make_flow(organization)), Model()
    for batch in batches:
        expected = [model.apply(operation) for operation in batch]
        full = [{**operation, "flow_execution_id": str(execution.pk)} for operation in batch]
        assert apply(reviewer, *full) == expected
    rows = trail(reviewer, execution)
    live = {(row["task_name"], row["tag"], repr(row["tag_metadata"])) for row in rows if row["status"] == "active"}
    assert len(rows) == model.rows
    assert live == set(model.live)
