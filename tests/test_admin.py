"""Staff look at everything and end tokens; nobody edits history by hand."""

import pytest
from django.contrib import admin
from django.test import Client

from executions.models import TaskStatus
from flowplatform.accounts.models import Organization, ServiceToken, User
from tags.models import TaskTag
from tests.builders import Api, make_execution, make_flow, make_member, make_token, statuses

OURS = ("accounts", "executions", "idempotency", "notifications", "tags")


def add_tag(api: Api, execution_id: str, operation: str = "add") -> None:
    tag = {"flow_execution_id": execution_id, "task_name": "extract", "tag": "approved", "tag_type": "review"}
    assert api("PATCH", "/api/task-tags", {"tags": [{"operation": operation, **tag}]}).status_code == 200


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff", password="x"))
    return client


def test_every_model_has_a_list_a_search_and_a_page(staff: Client, organization: Organization) -> None:
    make_member(organization)
    token = make_token(organization)
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    Api(token).post(path, statuses(("extract", "running")), **{"Idempotency-Key": "once"})
    add_tag(Api(token), str(execution.pk))
    registered = [model for model in admin.site._registry if model._meta.app_label in OURS]
    assert len(registered) == 14
    for model in registered:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert staff.get(base).status_code == 200, base
        assert staff.get(f"{base}?q=01a20160-373d-77d9-b95d-8aba70c0efd8").status_code == 200, base
        row = model._default_manager.first()
        assert row is not None, base
        assert staff.get(f"{base}{admin.utils.quote(row.pk)}/change/").status_code == 200, base


def test_history_cannot_be_changed_or_deleted_in_the_admin(staff: Client, organization: Organization) -> None:
    token = make_token(organization)
    execution = make_execution(make_flow(organization))
    Api(token).post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running")))
    row = TaskStatus.objects.get(flow_execution=execution)
    base = f"/admin/executions/taskstatus/{row.pk}"
    assert staff.post(f"{base}/change/", {"status": "completed"}).status_code == 403
    assert staff.post(f"{base}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get("/admin/executions/taskstatus/add/").status_code == 403


def test_a_token_is_revoked_by_an_action(staff: Client, organization: Organization) -> None:
    raw = make_token(organization)
    token = ServiceToken.objects.get(prefix=raw[:8])
    staff.post("/admin/accounts/servicetoken/", {"action": "revoke", "_selected_action": [token.pk]})
    assert Api(raw).get("/api/flows").status_code == 401


def test_a_removed_tag_is_restored_as_a_new_row(staff: Client, organization: Organization) -> None:
    api = Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    for operation in ("add", "remove"):
        add_tag(api, str(execution.pk), operation)
    removed = TaskTag.objects.get()
    for _ in range(2):  # the second time it stands already
        staff.post("/admin/tags/tasktag/", {"action": "restore", "_selected_action": [removed.pk]})
    assert [(tag.status, tag.modified_by) for tag in TaskTag.objects.of_execution(execution.pk)] == [
        ("deleted", removed.modified_by),
        ("active", "user:staff"),
    ]


def test_people_without_the_staff_flag_are_sent_to_sign_in(organization: Organization) -> None:
    client = Client()
    client.force_login(make_member(organization, "admin"))
    assert client.get("/admin/").status_code == 302
