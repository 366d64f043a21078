"""The relay: one bad flow does not hold up the others, and readers number what nobody else numbers."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from flowplatform.accounts.models import Organization
from notifications.models import Event, Stream
from notifications.relay import FRAME_BYTES, flows_waiting, frames, number_pending
from notifications.replay import number_stuck
from notifications.tasks import sweep
from tests.builders import make_execution, make_flow, make_organization

LONG_AGO = timedelta(minutes=5)


def waiting_event(organization: Organization, flow_id: UUID) -> Event:
    """Make a committed event whose hint was lost long ago."""
    return Event.objects.create(
        organization_id=organization.pk,
        flow_id=flow_id,
        type="flow_execution.updated",
        data={},
        created_at=timezone.now() - LONG_AGO,
    )


def test_events_of_a_deleted_organization_are_forgotten_and_hold_up_nobody(organization: Organization) -> None:
    gone = make_organization()
    waiting_event(gone, uuid4())
    gone.delete()
    flow = make_flow(organization)
    event = waiting_event(organization, flow.pk)
    sweep()
    assert Event.objects.get(pk=event.pk).offset == 1
    assert flows_waiting(older_than=timedelta(0)) == []


@pytest.mark.usefixtures("committed")
def test_a_flow_that_another_relay_holds_is_left_to_it() -> None:
    organization = make_organization(f"held-{uuid4().hex}")
    held, free = make_flow(organization), make_flow(organization)
    events = [waiting_event(organization, flow.pk) for flow in (held, free)]
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stream.objects.select_for_update().get(pk=held.pk)
            locked.set()
            assert done.wait(20)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    number_stuck([held.pk, free.pk])
    assert [Event.objects.get(pk=event.pk).offset for event in events] == [None, 1]
    done.set()
    holder.join()
    number_stuck([held.pk])
    assert Event.objects.get(pk=events[0].pk).offset == 1


def test_a_reader_numbers_its_flow_however_many_others_wait(organization: Organization) -> None:
    moment = timezone.now() - LONG_AGO
    Event.objects.bulk_create(
        Event(organization_id=organization.pk, flow_id=uuid4(), type="x", data={}, created_at=moment)
        for _ in range(1_100)
    )
    mine = make_flow(organization)
    event = waiting_event(organization, mine.pk)
    number_stuck([mine.pk])
    assert Event.objects.get(pk=event.pk).offset == 1


def test_a_long_backlog_is_numbered_in_batches(organization: Organization) -> None:
    flow = make_flow(organization)
    moment = timezone.now()
    Event.objects.bulk_create(
        Event(organization_id=organization.pk, flow_id=flow.pk, type="x", data={}, created_at=moment)
        for _ in range(1_200)
    )
    batches = [numbered[flow.pk] for numbered in number_pending([flow.pk])]
    assert [len(batch) for batch in batches] == [500, 500, 200]
    assert [row[0] for batch in batches for row in batch] == list(range(1, 1_201))


def test_flows_with_news_share_a_transaction_and_a_busy_one_does_not_hold_up_the_rest(
    organization: Organization, django_assert_max_num_queries: Any
) -> None:
    flows = [make_flow(organization).pk for _ in range(3)]
    Event.objects.filter(flow_id__in=flows).delete()
    for flow_id, waiting in zip(flows, (400, 2, 3), strict=True):
        for _ in range(waiting):
            waiting_event(organization, flow_id)
    with django_assert_max_num_queries(10):  # two transactions, whatever the number of flows
        first, second = number_pending(flows)
    assert {flow_id: len(rows) for flow_id, rows in first.items()} == dict(zip(flows, (166, 2, 3), strict=True))
    assert [row[0] for row in second[flows[0]]] == list(range(167, 401))
    assert list(Stream.objects.order_by("offset").values_list("offset", flat=True)) == [2, 3, 400]


def test_frames_stay_near_their_size_and_lose_nothing(organization: Organization) -> None:
    make_execution(make_flow(organization))
    moment = timezone.now()
    rows = [(offset, "x", None, moment, '{"text": "%s"}' % ("x" * 100_000)) for offset in range(1, 11)]
    made = list(frames(rows))
    assert [(frame.first, frame.last) for frame in made] == [(1, 3), (4, 6), (7, 9), (10, 10)]
    assert all(len(frame.text) < FRAME_BYTES + 101_000 for frame in made)
