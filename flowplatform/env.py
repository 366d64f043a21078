"""What the environment says: every variable the platform knows, read once, with its default.

Without `DATABASE_URL` and `REDIS_URL` the platform is in its embedded mode: it runs its own servers in a
data directory (`flowplatform.embedded`), makes its own secret and listens on 127.0.0.1 only.

A value that cannot be read ends the process with a sentence for each. What can be read and is not safe is refused by
what serves (`flowplatform/checks.py`).
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, cast

from environs import Env, EnvValidationError, ValidationError, validate
from limits import parse

BASE_DIR = Path(__file__).resolve().parent.parent

NO_LIMIT = "off"  # in the place of a rate

_env = Env(eager=False)  # collects what is wrong; the last lines tell all of it


def refuse(*sentences: str) -> NoReturn:
    """End the process with sentences for whoever set the environment: a traceback would say less."""
    sys.exit("\n".join(f"flowplatform: {sentence}" for sentence in sentences))


def _is_postgresql(url: str) -> None:
    # Without the value: it has a password in it.
    if url and not re.match(r"postgres(ql)?://.", url):
        raise ValidationError(
            "Not the URL of a PostgreSQL database, such as postgresql://user:password@host:5432/name."
        )


def _listed(text: str) -> list[str]:
    return [part for item in text.split(",") if (part := item.strip())]


def _is_rate(text: str) -> None:
    try:
        if text == NO_LIMIT or parse(text).amount:
            return
    except ValueError:
        pass
    raise ValidationError(f"Not a rate such as 100/10 seconds, 600/minute or {NO_LIMIT}.")


DATA_DIR = Path(_env.str("FLOWPLATFORM_DATA_DIR", "") or BASE_DIR / ".data").expanduser().absolute()
DATABASE_URL = _env.str("DATABASE_URL", "", validate=_is_postgresql)
EMBEDDED = not DATABASE_URL
# The role that owns the tables, for `manage.py`. The servers use DATABASE_URL, whose role owns nothing.
OWNER_DATABASE_URL = _env.str("OWNER_DATABASE_URL", "", validate=_is_postgresql) or DATABASE_URL
REDIS_URL = _env.str("REDIS_URL", "")
SECRET_KEY = _env.str("SECRET_KEY", "")
ALLOWED_HOSTS = _listed(_env.str("ALLOWED_HOSTS", ""))
CSRF_TRUSTED_ORIGINS = _listed(_env.str("CSRF_TRUSTED_ORIGINS", ""))
# Where browsers find the sockets, if not where they found the page: another port of the same host.
SOCKETS_PORT = _env.int("SOCKETS_PORT", 0) or None
# How long what is kept (docs/retention.md). Whole months of the status history older than this are dropped; 0 keeps
# everything, here and below.
HISTORY_RETENTION_DAYS = _env.int("HISTORY_RETENTION_DAYS", 0, validate=validate.Range(min=0))
# The same of the audit record.
AUDIT_RETENTION_DAYS = _env.int("AUDIT_RETENTION_DAYS", 0, validate=validate.Range(min=0))
EVENT_RETENTION_HOURS = _env.int("EVENT_RETENTION_HOURS", 24, validate=validate.Range(min=1))
DELETED_EXECUTION_RETENTION_DAYS = _env.int("DELETED_EXECUTION_RETENTION_DAYS", 0, validate=validate.Range(min=0))
TOKEN_RETENTION_DAYS = _env.int("TOKEN_RETENTION_DAYS", 365, validate=validate.Range(min=0))
# Processes of the web role on one machine.
WEB_CONCURRENCY = _env.int("WEB_CONCURRENCY", 2, validate=validate.Range(min=1))
DEBUG = _env.bool("DEBUG", False)
LOG_LEVEL = _env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(("DEBUG", "INFO", "WARNING", "ERROR")))
# A line of the logs is a JSON object, or text for people.
LOG_FORMAT = _env.str("LOG_FORMAT", "console" if EMBEDDED else "json", validate=validate.OneOf(("json", "console")))
# A line for every request and socket; what fails is logged in any case.
LOG_REQUESTS = _env.bool("LOG_REQUESTS", not EMBEDDED)
# Who may read /metrics: whoever sends this as a bearer token; without it, whoever asks from the same machine.
METRICS_TOKEN = _env.str("METRICS_TOKEN", "")
# Where worker and beat, which have no HTTP of their own, tell their figures: `address:port`, or nowhere.
METRICS_LISTEN = _env.str("METRICS_LISTEN", "", validate=validate.Regexp(r"(.+:\d+)?$"))

STATIC_ROOT = _env.str("STATIC_ROOT", "")
# Off only where people sign in over plain HTTP, such as a test installation without TLS.
SECURE_COOKIES = _env.bool("SECURE_COOKIES", not EMBEDDED)
SECURE_COOKIES_ARE_OFF = "SECURE_COOKIES" in os.environ and not SECURE_COOKIES  # because somebody said so
# Told to browsers over HTTPS: for so long they are to use nothing else.
HSTS_SECONDS = _env.int("HSTS_SECONDS", 365 * 24 * 3600 if SECURE_COOKIES else 0, validate=validate.Range(min=0))

# How much may be asked for (docs/limits.md). By whoever has a valid credential:
RATE_LIMIT_TOKEN = _env.str("RATE_LIMIT_TOKEN", "30000/10 seconds", validate=_is_rate)
RATE_LIMIT_PERSON = _env.str("RATE_LIMIT_PERSON", "600/10 seconds", validate=_is_rate)
RATE_LIMIT_ORGANIZATION = _env.str("RATE_LIMIT_ORGANIZATION", "100000/10 seconds", validate=_is_rate)
RATE_LIMIT_ADDRESS = _env.str("RATE_LIMIT_ADDRESS", "100000/10 seconds", validate=_is_rate)
# By an address without one: requests, tokens that are not valid, and attempts to sign in.
RATE_LIMIT_ANONYMOUS = _env.str("RATE_LIMIT_ANONYMOUS", "600/minute", validate=_is_rate)
RATE_LIMIT_FAILURES = _env.str("RATE_LIMIT_FAILURES", "30/minute", validate=_is_rate)
RATE_LIMIT_SIGN_INS = _env.str("RATE_LIMIT_SIGN_INS", "60/minute", validate=_is_rate)
# Sockets that are opened, by an actor and by an address.
RATE_LIMIT_SOCKETS = _env.str("RATE_LIMIT_SOCKETS", "1000/10 seconds", validate=_is_rate)
RATE_LIMIT_SOCKETS_ADDRESS = _env.str("RATE_LIMIT_SOCKETS_ADDRESS", "5000/10 seconds", validate=_is_rate)
# Sockets that are open at the same time in one live process.
SOCKETS_PER_ACTOR = _env.int("SOCKETS_PER_ACTOR", 100, validate=validate.Range(min=1))
SOCKETS_PER_ADDRESS = _env.int("SOCKETS_PER_ADDRESS", 2_000, validate=validate.Range(min=1))
SOCKETS_PER_PROCESS = _env.int("SOCKETS_PER_PROCESS", 5_000, validate=validate.Range(min=1))
SOCKETS_WAITING = _env.int("SOCKETS_WAITING", 1_000, validate=validate.Range(min=1))
# A name is locked out at the address where it failed so often, for so long.
SIGN_IN_FAILURES = _env.int("SIGN_IN_FAILURES", 5, validate=validate.Range(min=3, max=10))
SIGN_IN_LOCKOUT_MINUTES = _env.int("SIGN_IN_LOCKOUT_MINUTES", 15, validate=validate.Range(min=1))

try:
    _env.seal()  # nothing is read after this
except EnvValidationError as error:
    wrong = cast(Mapping[str, list[str]], error.error_messages)
    refuse(*(f"{name}: {' '.join(messages)}" for name, messages in wrong.items()))
