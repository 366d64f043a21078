"""Request schemas of the event log."""

from uuid import UUID

from pydantic import Field

from flowplatform.schemas import Query


class EventsQuery(Query):
    """Where to read on, and how much at most."""

    since: int = Field(
        0, ge=0, le=2**62, description="The highest offset the client has; 0 reads from the beginning.", examples=[41]
    )
    epoch: UUID | None = Field(None, description="The epoch of `since`.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many events.")
