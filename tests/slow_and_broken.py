"""An ASGI application for tests of the server around it: answers that take their time, and some that break."""

import asyncio
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer `/slow` after two seconds; break every other answer after its first bytes."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
    if scope["path"] != "/slow":
        raise RuntimeError("broken on purpose")
    await asyncio.sleep(2)
    await send({"type": "http.response.body", "body": b"and done"})
