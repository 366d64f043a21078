"""The channel layer from synchronous code: one event loop in a thread, so that its connection is made once.

The layer is lossy by nature: offsets, heartbeats and looks at the database carry the promise, so a failed send is only
logged.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

from flowplatform import metrics
from flowplatform.background import BackgroundLoop
from notifications.relay import Frame

logger = logging.getLogger(__name__)

SEND_SECONDS = 2.0

# What every live process receives that is in the message's group: the part of its `type` before the dot says what it is
# about, and is the name of the field with the id.
Message = Mapping[str, Any]


def group_of(kind: str, subject_id: UUID) -> str:
    """Return the channel layer group of a flow or an organization (ASCII letters, digits and a dot only)."""
    return f"{kind}.{subject_id.hex}"


def group_of_message(message: Message) -> str:
    """Return the group that a message belongs to."""
    kind: str = message["type"].partition(".")[0]
    return f"{kind}.{message[kind]}"


def frame_message(flow_id: UUID, frame: Frame) -> Message:
    """Return the message with the next events of a flow."""
    return {"type": "flow.frame", "flow": flow_id.hex, "first": frame.first, "last": frame.last, "text": frame.text}


def changes_message(organization_id: UUID, offsets: Mapping[UUID, int]) -> Message:
    """Return the message that says which flows of an organization changed, and their offsets."""
    flows = {flow_id.hex: offset for flow_id, offset in offsets.items()}
    return {"type": "organization.changed", "organization": organization_id.hex, "flows": flows}


class LayerSender:
    """Sends messages to the live processes from any thread of a synchronous process."""

    def __init__(self) -> None:
        self._background = BackgroundLoop("channel-layer")

    def send(self, messages: Iterable[Message]) -> bool:
        """Send messages in order, each to its group; say whether the layer took them all within two seconds."""
        try:
            self._background.run(self._send(messages), SEND_SECONDS)
        except Exception as error:
            metrics.layer_sends.labels("failed").inc()
            logger.warning("the channel layer did not take all news: %r", error)
            return False
        metrics.layer_sends.labels("sent").inc()
        return True

    async def _send(self, messages: Iterable[Message]) -> None:
        layer = get_channel_layer()
        assert layer is not None
        for message in messages:
            await layer.group_send(group_of_message(message), message)


layer_sender = LayerSender()
