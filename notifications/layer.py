"""The channel layer from synchronous code: one event loop in a thread, so that its connection is made once.

The layer is lossy by nature: offsets and heartbeats carry the promise, so a failed send is only logged.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterable
from uuid import UUID

from channels.layers import get_channel_layer

from notifications.relay import Frame

logger = logging.getLogger(__name__)

SEND_SECONDS = 2.0


def group_of(flow_id: UUID) -> str:
    """Return the channel layer group of a flow (ASCII letters, digits and a dot only)."""
    return f"flow.{flow_id.hex}"


def message_of(flow_id: UUID, frame: Frame) -> dict[str, object]:
    """Return a frame as the message that every live process receives."""
    return {"type": "flow.frame", "flow": flow_id.hex, "first": frame.first, "last": frame.last, "text": frame.text}


class LayerSender:
    """Sends frames to the live processes from any thread of a synchronous process."""

    def __init__(self) -> None:
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)  # a prefork worker's children get a loop of their own

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def send(self, news: Iterable[tuple[UUID, Frame]]) -> bool:
        """Send frames of flows in order; say whether the layer took them all within two seconds."""
        sending = asyncio.run_coroutine_threadsafe(self._send(news), self._running_loop())
        try:
            sending.result(SEND_SECONDS)
        except Exception as error:
            sending.cancel()
            logger.warning("the channel layer did not take all news: %r", error)
            return False
        return True

    async def _send(self, news: Iterable[tuple[UUID, Frame]]) -> None:
        layer = get_channel_layer()
        assert layer is not None
        for flow_id, frame in news:
            await layer.group_send(group_of(flow_id), message_of(flow_id, frame))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="channel-layer", daemon=True).start()
            return self._loop


layer_sender = LayerSender()
