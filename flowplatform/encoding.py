"""How values are written as JSON, in REST answers and in events alike."""

from typing import Any

import orjson


def encode(value: Any) -> bytes:
    """Encode a value as the API shows it: ids as text, times as ISO 8601 in UTC with a `Z`."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
