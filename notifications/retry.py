"""A retry by hand: relays what waits in this process, so that it works while worker, beat or broker are down."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.contrib.messages import constants
from django.db import DatabaseError, InterfaceError

from flowplatform import metrics
from flowplatform.errors import is_gone
from notifications.layer import layer_sender
from notifications.relay import FLOWS, Numbered, flows_waiting_of, number_pending
from notifications.tasks import news_of

logger = logging.getLogger(__name__)

SECONDS = 8.0  # a person waits for the answer, and a thread of the web role works for it
MOST = 1_000  # flows at once


@dataclass(slots=True)
class Retried:
    """What became of a retry."""

    events: int = 0
    flows: set[UUID] = field(default_factory=set)
    failed: int = 0  # flows that the database refused
    left: int = 0  # flows for which there was no time
    is_more_left: bool = False  # perhaps: not all were asked for
    is_sent: bool = True

    def sentences(self) -> Iterator[tuple[int, str]]:
        """Yield what to tell a person, each with the level of its message."""
        if self.events:
            yield constants.SUCCESS, f"Numbered {_count(self.events, 'event')} of {_count(len(self.flows), 'flow')}."
        elif not (self.failed or self.left):
            yield constants.INFO, "No event waited, or another relay has them in hand."
        if not self.is_sent:
            yield (
                constants.WARNING,
                "Valkey did not take them: live pages find them in the database within seconds. Look at Valkey.",
            )
        if self.failed:
            yield (
                constants.ERROR,
                f"Could not be relayed: {_count(self.failed, 'flow')}. The log of this process says why.",
            )
        if self.left:
            left = f"{'at least ' if self.is_more_left else ''}{_count(self.left, 'flow')}"
            yield constants.WARNING, f"Not yet relayed, for want of time: {left}. Press again."


def retry(flow_ids: Sequence[UUID]) -> Retried:
    """Number and send what waits in `MOST` of the flows, for about `SECONDS`; say what happened.

    A flow that another relay holds is left to that one. One that cannot be relayed does not hold up the others.
    """
    wanted, rest = flow_ids[:MOST], flow_ids[MOST:]
    retried = Retried(left=len(rest), is_more_left=bool(rest))
    until = time.monotonic() + SECONDS
    for begin in range(0, len(wanted), FLOWS):
        retried.left += _relay(wanted[begin : begin + FLOWS], retried, until)
    return retried


def _relay(flows: Sequence[UUID], retried: Retried, until: float) -> int:
    """Relay what waits in a few flows; return how many there was no time for."""
    if time.monotonic() > until:
        return len(flows)
    try:
        for numbered in number_pending(flows, wait=False):
            retried.flows |= numbered.keys()
            events = sum(map(len, numbered.values()))
            retried.events += events
            metrics.relayed_events.labels("person").inc(events)
            # The layer is asked until it fails once: each attempt may take two seconds.
            retried.is_sent = retried.is_sent and _send(numbered)
            if time.monotonic() > until:
                return len(flows_waiting_of(flows, older_than=timedelta(0)))
    except (DatabaseError, InterfaceError) as error:
        if len(flows) > 1 and not is_gone(error):  # one of them is to blame
            return sum(_relay([flow_id], retried, until) for flow_id in flows)
        logger.exception("%d flows could not be relayed by hand", len(flows))
        retried.failed += len(flows)
    return 0


def _send(numbered: Numbered) -> bool:
    return layer_sender.send(list(news_of(numbered)))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
