"""What the contract promises of every answer, whatever was asked."""

from collections.abc import Mapping
from typing import Any

import orjson

CODES = {
    400: {"bad_request", "invalid_definition"},
    401: {"unauthenticated"},
    403: {"forbidden"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    409: {"conflict"},
    413: {"payload_too_large"},
    415: {"unsupported_media_type"},
}


def check_form(status: int, headers: Mapping[str, str], content: bytes) -> None:
    """Hold an answer to its form: its headers, and the envelope with the code of its status, or the problems of a 422.

    `headers` have lower-case names. A 5xx is never right here, and no value should get as far as to be refused by the
    database.
    """
    assert headers.keys() >= {"x-request-id", "server-timing"}
    if status == 422:
        problems = problems_of(content)
        assert problems
        assert "The database refused a value." not in {problem["msg"] for problem in problems}
    elif status >= 400:
        assert status in CODES, content
        body = orjson.loads(content)
        assert body.keys() == {"error", "request_id"}
        assert body["error"].keys() == {"message", "code", "details"}
        assert body["error"]["code"] in CODES[status]
        assert body["request_id"] == headers["x-request-id"]


def problems_of(content: bytes) -> list[dict[str, Any]]:
    """Return the problems that a 422 names, having checked their form."""
    body: dict[str, list[dict[str, Any]]] = orjson.loads(content)
    assert body.keys() == {"detail"}
    assert all(problem.keys() == {"loc", "msg", "type"} for problem in body["detail"])
    return body["detail"]
