"""What both clients ask of the real server, and what they make of its answers."""

import asyncio
import dataclasses
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flowplatform_client import (
    UNSET,
    ApiError,
    AsyncFlowPlatform,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    Event,
    ExpectedTags,
    FlowPlatform,
    ForbiddenError,
    InvalidDefinitionError,
    NotFoundError,
    PayloadTooLargeError,
    Reset,
    RetryPolicy,
    TagChange,
    UnauthenticatedError,
    UnprocessableError,
)

from flowplatform.bodies import MAX_BODY_BYTES
from tests.builders import definition, make_organization, make_token
from tests.client.conftest import Asker
from tests.conftest import Platform
from tests.stack import free_port, wait_until

INVOICES = definition("extract", "classify", classify=["extract"])
ONCE = RetryPolicy.never()


def test_a_flow_is_registered_read_listed_and_given_versions(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES, description="From the scan"))
    assert (flow.display_name, flow.description, flow.version, flow.definition) == (
        "Invoices",
        "From the scan",
        1,
        INVOICES,
    )
    assert flow.created_at.utcoffset() == timedelta(0)
    newer = ask(lambda platform: platform.flows.define(flow.id, definition("extract")))
    assert (newer.id, newer.version) == (flow.id, 2)
    assert ask(lambda platform: platform.flows.get(flow.id, version=1)).definition == INVOICES
    assert ask(lambda platform: platform.flows.list()) == [newer]


def test_a_flow_is_made_sure_of_and_gets_a_version_only_if_its_tasks_differ(ask: Asker) -> None:
    ids = {ask(lambda platform: platform.flows.ensure("Invoices", INVOICES)).id for _ in range(2)}
    ask(lambda platform: platform.flows.create("Others", INVOICES))
    changed = ask(lambda platform: platform.flows.ensure("Invoices", definition("extract")))
    assert ({changed.id}, changed.version) == (ids, 2)


def test_an_execution_goes_its_way(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id, input={"month": "2026-11"}))
    assert (execution.status, execution.input, execution.flow_version) == ("queued", {"month": "2026-11"}, 1)
    assert ask(lambda platform: platform.executions.get(execution.id)) == execution
    assert ask(lambda platform: platform.executions.set_status(execution.id, "running")).status == "running"
    ask(lambda platform: platform.executions.cancel(execution.id))
    assert ask(lambda platform: platform.executions.get(execution.id)).status == "cancel_requested"
    with pytest.raises(ConflictError):
        ask(lambda platform: platform.executions.execute(execution.id))
    for _ in range(2):
        ask(lambda platform: platform.executions.delete(execution.id))
    with pytest.raises(NotFoundError):
        ask(lambda platform: platform.executions.get(execution.id))


def test_executions_are_listed_by_what_is_asked_for(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    ids = [ask(lambda platform: platform.executions.create(flow.id)).id for _ in range(5)]
    ask(lambda platform: platform.executions.set_status(ids[0], "completed"))
    ask(lambda platform: platform.executions.set_status(ids[1], "failed"))

    def listed(**filters: object) -> list[str]:
        return [one.id for one in ask(lambda platform: platform.executions.list(flow.id, **filters))]

    assert listed(page_size=2) == ids[::-1]
    assert listed(status=["completed", "failed"], sort_direction="asc") == ids[:2]
    assert listed(status="completed") == ids[:1]
    assert listed(status_exclude="queued", page_size=1) == ids[1::-1]
    assert listed(created_before=datetime.now(UTC) - timedelta(days=1)) == []
    assert len(listed(created_after=datetime.now(UTC) - timedelta(days=1))) == 5
    numbered = ask(lambda platform: platform.executions.list(flow.id, include_run_number=True))
    assert [one.run_number for one in numbered] == [5, 4, 3, 2, 1]


def test_rows_that_are_added_while_a_list_is_read_do_not_show_others_twice(client: FlowPlatform) -> None:
    flow = client.flows.create("Invoices", INVOICES)
    ids = [client.executions.create(flow.id).id for _ in range(5)]
    pages = client.executions.list(flow.id, page_size=2).pages()
    first = [one.id for one in next(pages)]
    client.executions.create(flow.id)
    rest = [one.id for page in pages for one in page]
    assert first + rest == ids[::-1]


def test_statuses_are_written_in_order_and_read_newest_first(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    updates = [("extract", "queued"), ("extract", "running"), ("classify", "queued")]
    written = ask(lambda platform: platform.statuses.add(execution.id, updates))
    assert [(row.task_name, row.status) for row in written] == updates
    assert ask(lambda platform: platform.statuses.history(execution.id, page_size=2)) == written[::-1]
    assert ask(lambda platform: platform.statuses.history(execution.id, task_name="classify")) == written[2:]


def test_a_batch_with_a_key_of_the_caller_is_written_once(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    key = str(uuid4())

    def add(status: str) -> object:
        return ask(lambda platform: platform.statuses.add(execution.id, [("extract", status)], idempotency_key=key))

    assert add("running") == add("running")
    assert len(ask(lambda platform: platform.statuses.history(execution.id))) == 1
    with pytest.raises(UnprocessableError, match="The key was used with another body"):
        add("completed")


def test_attempts_keep_what_is_left_out_and_can_be_edited(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    begun = datetime.now(UTC)

    def put(status: str, **fields: object) -> object:
        return ask(lambda platform: platform.task_executions.put(execution.id, "extract", 0, status, **fields))

    first = put("running", started_at=begun, input={"pages": 2}, error="none yet")
    done = put("completed", output={"total": 118}, error=None)
    assert (done.id, done.started_at, done.input, done.output, done.error) == (
        first.id,
        begun,
        {"pages": 2},
        {"total": 118},
        None,
    )
    edited = ask(lambda platform: platform.task_executions.edit(dataclasses.replace(done, output={"total": 119})))
    assert (edited.output, edited.edited_status) == ({"total": 119}, "edited_not_reexecuted")
    with pytest.raises(ConflictError):
        ask(lambda platform: platform.task_executions.edit(done))
    assert ask(lambda platform: platform.task_executions.get(first.id)) == edited
    assert ask(lambda platform: platform.task_executions.list(execution.id, task_execution_idx=0)) == [edited]


def test_outputs_show_the_state_of_tasks_with_their_tags(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    ask(lambda platform: platform.statuses.add(execution.id, [("extract", "running"), ("classify", "waiting")]))
    ask(lambda platform: platform.task_outputs.set(execution.id, "extract", summary="2 pages", output=[1]))
    kept = ask(lambda platform: platform.task_outputs.set(execution.id, "extract", output=None))
    assert (kept.summary, kept.output, kept.processing_status) == ("2 pages", None, "running")
    ask(lambda platform: platform.tags.add(execution.id, "extract", "approved", "review"))
    outputs = ask(lambda platform: platform.task_outputs.list(execution.id, page_size=1))
    assert {output.task_name: output.processing_status for output in outputs} == {
        "extract": "running",
        "classify": "waiting",
    }
    (tag,) = ask(lambda platform: platform.task_outputs.get(kept.id)).tags
    assert (tag.tag, tag.tag_type, tag.created_by) == ("approved", "review", tag.modified_by)
    assert repr(UNSET) == "UNSET"


def test_tags_leave_a_trail_and_a_batch_may_expect_what_it_saw(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    mine = {"flow_execution_id": execution.id, "task_name": "extract"}
    add = TagChange(operation="add", tag="late", tag_type="quality", tag_metadata={"days": 3}, **mine)
    assert ask(lambda platform: platform.tags.change([add, add])) == ["added", "already_exists"]
    remove = ("extract", "late", "quality")
    assert ask(lambda platform: platform.tags.remove(execution.id, *remove)) == "not_found"
    assert ask(lambda platform: platform.tags.remove(execution.id, *remove, metadata={"days": 3})) == "removed"
    assert ask(lambda platform: platform.tags.list(execution.id)) == []
    (trail,) = ask(lambda platform: platform.tags.list(execution.id, include_deleted=True))
    assert (trail.status, trail.tag_metadata) == ("deleted", {"days": 3})
    seen = ExpectedTags(tag_type="quality", tag_ids=(trail.id,), **mine)
    with pytest.raises(ConflictError) as refused:
        ask(lambda platform: platform.tags.change([add], expected=[seen]))
    assert refused.value.details


def test_events_are_read_to_the_last_one_and_a_lost_past_is_told(ask: Asker) -> None:
    flow = ask(lambda platform: platform.flows.create("Invoices", INVOICES))
    execution = ask(lambda platform: platform.executions.create(flow.id))
    for status in ("queued", "running", "completed"):
        ask(lambda platform, status=status: platform.statuses.add(execution.id, [("extract", status)]))
    wait_until(lambda: ask(lambda platform: platform.events.read(flow.id)).offset == 4, what="four events")
    events = ask(lambda platform: platform.events.list(flow.id, page_size=2))
    assert [event.offset for event in events] == [1, 2, 3, 4]
    assert events[0].type == "flow_execution.created"
    assert [event.data["statuses"][0]["status"] for event in events[1:]] == ["queued", "running", "completed"]
    assert ask(lambda platform: platform.events.list(flow.id, since=3, epoch=events[0].epoch)) == events[3:]
    (reset,) = ask(lambda platform: platform.events.list(flow.id, since=3, epoch=str(uuid4())))
    assert reset == Reset(epoch=events[0].epoch, offset=4)
    assert isinstance(events[0], Event)


# --- Refusals -------------------------------------------------------------------------------------------------------


def test_a_stranger_finds_nothing_and_cannot_tell_that_something_is_there(
    platform: Platform, ask: Asker, kind: str
) -> None:
    flow = ask(lambda mine: mine.flows.create("Invoices", INVOICES))
    execution = ask(lambda mine: mine.executions.create(flow.id))
    stranger = Asker(kind, platform.url, make_token(make_organization()))
    never = uuid4()
    for question in (
        lambda theirs, row: theirs.executions.get(row),
        lambda theirs, row: theirs.executions.cancel(row),
        lambda theirs, row: theirs.executions.delete(row),
        lambda theirs, row: theirs.statuses.add(row, [("extract", "running")]),
        lambda theirs, row: theirs.statuses.history(row),
        lambda theirs, row: theirs.task_executions.put(row, "extract", 0, "running"),
        lambda theirs, row: theirs.task_outputs.list(row),
        lambda theirs, row: theirs.tags.add(row, "extract", "approved", "review"),
    ):
        told = []
        for row in (execution.id, never):
            with pytest.raises(NotFoundError) as refused:
                stranger(lambda theirs, question=question, row=row: question(theirs, row))
            told.append((refused.value.code, refused.value.message, refused.value.details))
        assert told[0] == told[1] == ("not_found", "Not found.", None)
    with pytest.raises(NotFoundError):
        stranger(lambda theirs: theirs.flows.get(flow.id))
    assert stranger(lambda theirs: theirs.flows.list()) == []
    stranger.close()


def test_each_refusal_is_a_class_with_code_and_request_id(platform: Platform, ask: Asker, kind: str) -> None:
    flow = ask(lambda mine: mine.flows.create("Invoices", INVOICES))
    execution = ask(lambda mine: mine.executions.create(flow.id))

    def refusal_of(question: object, error: type[ApiError]) -> ApiError:
        with pytest.raises(error) as refused:
            ask(question)
        assert refused.value.request_id is not None
        assert f"[request {refused.value.request_id}]" in str(refused.value)
        return refused.value

    unknown = refusal_of(lambda mine: mine.statuses.add(execution.id, [("a", "b")]), BadRequestError)
    assert (unknown.code, unknown.details[0]["task_name"]) == ("bad_request", "a")
    circle = definition("a", "b", a=["b"], b=["a"])
    assert refusal_of(lambda mine: mine.flows.create("x", circle), InvalidDefinitionError).code == "invalid_definition"
    unfit = refusal_of(lambda mine: mine.statuses.add(execution.id, [("a", "b"), ("c", "")]), UnprocessableError)
    assert [place["loc"] for place in unfit.details] == [["body", "statuses", 1, "status"]]
    assert "422: body.statuses.1.status: " in str(unfit)
    reader = Asker(kind, platform.url, make_token(make_organization(), ["read"]))
    with pytest.raises(ForbiddenError) as forbidden:
        reader(lambda theirs: theirs.flows.create("x", INVOICES))
    assert forbidden.value.is_about_credentials
    reader.close()
    nobody = Asker(kind, platform.url, "no.token")
    with pytest.raises(UnauthenticatedError) as unknown_token:
        nobody(lambda theirs: theirs.flows.list())
    assert unknown_token.value.is_about_credentials
    nobody.close()


def test_a_body_that_the_server_would_not_read_is_not_sent(ask: Asker) -> None:
    flow = ask(lambda mine: mine.flows.create("Invoices", INVOICES))
    around = len(f'{{"flow_id":"{flow.id}","input":{{"x":""}}}}')
    fits = {"x": "x" * (MAX_BODY_BYTES - around)}
    assert ask(lambda mine: mine.executions.create(flow.id, input=fits)).input == fits
    with pytest.raises(PayloadTooLargeError, match=r"was not sent: the body has 1,048,577 bytes") as refused:
        ask(lambda mine: mine.executions.create(flow.id, input={"x": fits["x"] + "x"}))
    assert (refused.value.status, refused.value.code) == (413, "payload_too_large")


def test_an_error_survives_the_way_to_another_process(client: FlowPlatform) -> None:
    with pytest.raises(NotFoundError) as refused:
        client.flows.get(uuid4())
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (type(copy), str(copy), copy.code) == (NotFoundError, str(refused.value), "not_found")


def test_an_id_leads_to_no_other_place(client: FlowPlatform) -> None:
    with pytest.raises(ApiError) as refused:
        client.executions.get("../flows?page=1")
    assert refused.value.status in (404, 422)


def test_what_json_does_not_have_is_refused_before_it_is_sent(client: FlowPlatform) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.executions.create(uuid4(), input={"x": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        client.executions.create(uuid4(), input={"x": object()})


# --- Who asks, and where --------------------------------------------------------------------------------------------


def test_a_system_token_names_the_organization(platform: Platform, committed: None, kind: str) -> None:
    organization = make_organization(f"client-{uuid4().hex}")
    token = make_token(None)
    nowhere = Asker(kind, platform.url, token)
    with pytest.raises(BadRequestError):
        nowhere(lambda theirs: theirs.flows.create("x", INVOICES))
    there = Asker(kind, platform.url, token, organization=organization.slug)
    assert there(lambda theirs: theirs.flows.create("x", INVOICES)).organization_id == str(organization.pk)
    nowhere.close()
    there.close()


def test_the_environment_names_server_and_token(
    platform: Platform, committed: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cls = FlowPlatform if kind == "sync" else AsyncFlowPlatform
    for name, reason in (("URL", "FLOWPLATFORM_URL is not set"), ("TOKEN", "FLOWPLATFORM_TOKEN is not set")):
        with pytest.raises(ConfigurationError, match=reason):
            cls.from_environment()
        monkeypatch.setenv(f"FLOWPLATFORM_{name}", {"URL": f" {platform.url}/ ", "TOKEN": "a.token"}[name])
    assert cls.from_environment(timeout=1).url == platform.url


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://host", "http://", "http://[oops", "http://a\0b", "http://a b", "http://a:port",
     "http://localhost/?a=b", "http://me:secret@localhost"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the address of a server") as refused:
        FlowPlatform(url, "a.token")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("token", ["", " ", "a\nb", "tökn"])
def test_a_token_that_is_none_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the service token holds characters that no token has$"):
        FlowPlatform("http://localhost", token)


def test_a_token_does_not_travel_readable_unless_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for local in ("http://localhost:8000", "http://127.0.0.2", "http://[::1]:8000", "http://app.localhost"):
        FlowPlatform(local, "a.token")
    FlowPlatform("https://flows.example", "a.token")
    FlowPlatform("http://flows.example", "a.token", allow_plain_http=True)
    for far in ("http://flows.example", "http://10.0.0.1", "http://localhost.example"):
        with pytest.raises(ConfigurationError, match="the token would be readable on the way to http"):
            FlowPlatform(far, "a.token")
    with pytest.raises(ConfigurationError, match="readable on the way to http://sockets"):
        FlowPlatform("https://flows.example", "a.token", sockets_url="http://sockets.example")
    monkeypatch.setenv("FLOWPLATFORM_URL", "http://flows.example")
    monkeypatch.setenv("FLOWPLATFORM_TOKEN", "a.token")
    monkeypatch.setenv("FLOWPLATFORM_ALLOW_PLAIN_HTTP", "1")
    FlowPlatform.from_environment()


def test_nothing_that_is_printed_holds_the_token(client: FlowPlatform) -> None:
    token = client.address.token
    flow = client.flows.create("Invoices", INVOICES)
    execution = client.executions.create(flow.id)
    with pytest.raises(NotFoundError) as refused:
        client.flows.get(uuid4())
    lost = FlowPlatform(f"http://127.0.0.1:{free_port()}", token, retries=ONCE)
    with pytest.raises(ConnectionFailedError) as failed:
        lost.flows.get(flow.id)
    printed = [client, client.address, client.flows, flow, execution, refused.value, failed.value, vars(client.address)]
    assert not [text for text in map(repr, printed[:-1]) if token in text]
    assert token not in str(refused.value) + str(failed.value)


# --- Threads and forks ----------------------------------------------------------------------------------------------


def test_threads_share_a_client(client: FlowPlatform) -> None:
    flow = client.flows.create("Invoices", INVOICES)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: client.executions.create(flow.id).id, range(40)))
    assert sorted(one.id for one in client.executions.list(flow.id)) == sorted(made)


def test_a_child_after_a_fork_connects_by_itself(client: FlowPlatform) -> None:
    """A connection that both used would give the answers of one to the other."""
    flow = client.flows.create("Invoices", INVOICES)
    client._driver._lock.acquire()  # as a thread might that is in the middle of something
    children = [_forked(client, flow.id, count=20) for _ in range(3)]
    client._driver._lock.release()
    for _ in range(20):
        assert client.flows.get(flow.id) == flow
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(client.executions.list(flow.id))) == 60


def _forked(client: FlowPlatform, flow_id: str, *, count: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        threading.Timer(20, os._exit, [2]).start()
        for _ in range(count):
            assert client.executions.create(flow_id).flow_id == flow_id
        code = 0
    finally:
        os._exit(code)


def test_one_asynchronous_client_serves_one_event_loop_after_another(platform: Platform, committed: None) -> None:
    client = AsyncFlowPlatform(platform.url, make_token(make_organization()))

    for _ in range(2):
        assert asyncio.run(_count(client)) == 0


async def _count(client: AsyncFlowPlatform) -> int:
    return len([flow async for flow in client.flows.list()])
