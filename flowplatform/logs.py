"""What the lines of the logs look like, and what each says of where it came from.

`LOG_FORMAT=json` makes one JSON object a line, for programs; `console` makes text for people. Either way a line that is
written while a request is answered names its id, its route, and who asks for which organization; one of a Celery task
names the task and the requests that led to it; one of a socket names what it watches and for whom.

Nothing that a client sends gets in but paths, user names and ids, and no line can be forged by these: control
characters are escaped in text as they are in JSON, and the lines of a traceback are indented. PostgreSQL's DETAIL,
which quotes rows, is left out.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import structlog
from structlog.processors import EventRenamer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from flowplatform import current_request, telemetry

Line = dict[str, Any]

# What a call of `logging` may add by `extra`. Not all: Django adds whole requests.
_EXTRA = ("method", "path", "status", "milliseconds", "address", "code", "seconds")
_FIRST = ("time", "level", "logger", "message")
_DETAIL = re.compile(r"\b(DETAIL|CONTEXT): .*?(?=\n\nThe above exception|\n\nDuring handling|\Z)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def configuration(*, form: str, level: str, requests: bool) -> dict[str, Any]:
    """Return Django's `LOGGING` for a form (json, console) and a level, with or without a line for each request.

    Also has structlog, by which django-structlog speaks, go the same way.
    """
    begin: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        telemetry.add_trace,
        add_logger_name,
        add_log_level,
        ExtraAdder(_EXTRA),
        TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    end: list[Any] = [
        ProcessorFormatter.remove_processors_meta,
        format_exc_info,
        EventRenamer("message"),
        _leave_out_details,
        _put_first,
        as_json if form == "json" else as_text,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *begin, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": ProcessorFormatter, "foreign_pre_chain": begin, "processors": end}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "flowplatform.requests": {"level": level if requests else "CRITICAL"},
            "django": {"handlers": [], "level": "INFO"},  # Django's own handlers would say everything twice
            "django.request": {"level": "ERROR"},  # every 404 is not worth a line
            "celery": {"level": "WARNING"},
            "celery.app.trace": {"level": "CRITICAL"},  # django-structlog tells of failed tasks, with their context
            "health_check": {"level": "ERROR"},  # what is away is in the answer, and in the logs of who needs it
            "axes": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
        },
    }


# --- What is added --------------------------------------------------------------------------------------------------


def _add_request(logger: Any, method: str, line: Line) -> Line:
    """Say for which request this thread works, as far as that is known by now."""
    request = current_request.current()
    if request is not None:
        line["request_id"] = getattr(request, "request_id", None)
        line["route"] = current_request.route_of(request)
        if actor := current_request.actor_of(request):
            line |= about(actor)
    return line


def about(actor: Any) -> dict[str, str]:
    """Return what lines say of an actor or user: the organization where it is exactly one."""
    said = {"actor": getattr(actor, "name", None) or f"user:{actor.get_username()}", "actor_id": str(actor.id)}
    organization_ids = getattr(actor, "organization_ids", None) or ()
    if len(organization_ids) == 1:
        said["organization"] = str(next(iter(organization_ids)))
    return said


# --- What a line looks like -----------------------------------------------------------------------------------------


def _leave_out_details(logger: Any, method: str, line: Line) -> Line:
    for name in ("message", "error", "exception"):
        if isinstance(text := line.get(name), str):
            line[name] = _DETAIL.sub(r"\1: (left out)", text)
    return line


def _put_first(logger: Any, method: str, line: Line) -> Line:
    return {name: line.pop(name) for name in _FIRST if name in line} | line


def as_json(logger: Any, method: str, line: Line) -> str:
    """Return a line as a JSON object."""
    try:
        text = orjson.dumps(line, default=str).decode()
    except TypeError:  # a lone surrogate, for which UTF-8 has no bytes
        return json.dumps(line, default=str)
    # JSON leaves some as they are that others take for the end of a line.
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_text(logger: Any, method: str, line: Line) -> str:
    """Return a line as text: time, level, logger and message, then the rest as `name=value`."""
    time, level, name, message = (_printable(line.pop(key, "")) for key in _FIRST)
    exception = line.pop("exception", "")
    rest = "".join(f" {key}={_printable(value)}" for key, value in line.items())
    return "\n".join((f"{time} {level.upper()} {name}: {message}{rest}", *_indented(exception)))


def _indented(exception: str) -> Iterator[str]:
    return (f"    {_printable(text)}" for text in exception.split("\n") if text)


def _printable(value: Any) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), str(value))
