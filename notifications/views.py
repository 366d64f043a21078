"""The event log over HTTP: what the sockets carry, for clients that poll or missed something."""

import orjson
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from flowplatform.accounts.models import OrganizationQuerySet
from flowplatform.accounts.views import OrganizationViewSet
from flowplatform.encoding import encode
from flowplatform.openapi import query_parameters
from notifications.models import Stream
from notifications.relay import event_json
from notifications.replay import number_stuck, replay
from notifications.schemas import EventsQuery
from notifications.serializers import EventsAnswer


class EventViewSet(OrganizationViewSet[Stream, OrganizationQuerySet]):
    """`GET /api/flows/{flow_id}/events`."""

    model = Stream

    @extend_schema(
        operation_id="list_events",
        summary="Events of a flow",
        parameters=query_parameters(EventsQuery),
        responses=EventsAnswer,
        tags=["events"],
    )
    def list(self, request: Request, flow_id: str) -> Response:
        """Events after `since`, oldest first. Read on with the last event's offset until it equals `offset`."""
        query = self.query(EventsQuery)
        stream = self.row_or_404("flow_id")
        number_stuck({stream.flow_id})
        epoch = str(query.epoch) if query.epoch else None
        position, events = replay(stream.flow_id, since=query.since, epoch=epoch, limit=query.limit)
        return Response(
            encode(
                {
                    "epoch": position.epoch,
                    "offset": position.offset,
                    "reset": events is None,
                    "events": [orjson.Fragment(event_json(row)) for row in events or ()],
                }
            )
        )
