"""What nobody should serve with: checks of an installation's own settings, and the refusal of every role that serves.

They concern installations with a database of their own. The embedded mode makes its own secret and listens on
127.0.0.1 only. `manage.py check --deploy` shows them beside Django's.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register, run_checks
from django.core.exceptions import ImproperlyConfigured

from flowplatform import env, role
from flowplatform.postgresql.application_role import refuse_powerful_role

PRODUCTION = "production"  # the tag of these checks, and of others that what serves is to ask at its start

SECRET_LENGTH = 50
SECRET_CHARACTERS = 10  # different ones: a repeated word is no secret
_KNOWN_SECRET = re.compile(r"django-insecure-|change.?me|secret|password|example", re.IGNORECASE)

_DATABASE_SECONDS = 2
_BROKER_SECONDS = 0.5


def refuse_unsafe() -> None:
    """End a process that is about to serve with unsafe settings: a line on stderr for each, and exit code 1."""
    if env.EMBEDDED:
        return
    every = run_checks(tags=[PRODUCTION], include_deployment_checks=True)
    found = sorted((message for message in every if not message.is_silenced()), key=lambda message: str(message.id))
    for message in found:
        if not message.is_serious():
            print(f"flowplatform: {_sentence(message)}", file=sys.stderr)
    if any(message.is_serious() for message in found):
        env.refuse(*(_sentence(message) for message in found if message.is_serious()))


def _sentence(message: CheckMessage) -> str:
    return " ".join(str(part) for part in (message.msg, message.hint, f"[{message.id}]") if part)


@register(PRODUCTION, Tags.security, deploy=True)
def check_debug(**_: Any) -> Sequence[CheckMessage]:
    """DEBUG shows settings and source to whoever causes an error."""
    if env.EMBEDDED or not settings.DEBUG:
        return []
    hint = "Set DEBUG=false; for development leave DATABASE_URL out."
    return [Error("DEBUG is on although DATABASE_URL is set.", hint=hint, id="flowplatform.E001")]


@register(PRODUCTION, Tags.security, deploy=True)
def check_secret_key(**_: Any) -> Sequence[CheckMessage]:
    """Who knows SECRET_KEY signs in as anybody."""
    if env.EMBEDDED:
        return []
    key = env.SECRET_KEY
    if not key:
        problem = "is not set although DATABASE_URL is"
    elif len(key) < SECRET_LENGTH or len(set(key)) < SECRET_CHARACTERS:
        problem = f"has fewer than {SECRET_LENGTH} characters, or fewer than {SECRET_CHARACTERS} different ones"
    elif _KNOWN_SECRET.search(key):
        problem = "is an example that others know"
    else:
        return []
    return [Error(f"SECRET_KEY {problem}.", hint="Take the output of: openssl rand -hex 32.", id="flowplatform.E002")]


@register(PRODUCTION, Tags.security, deploy=True)
def check_allowed_hosts(**_: Any) -> Sequence[CheckMessage]:
    """Links and the origins of sockets follow the Host header: it has to be one of ours."""
    if env.EMBEDDED or (settings.ALLOWED_HOSTS and not any("*" in name for name in settings.ALLOWED_HOSTS)):
        return []
    problem = "has a * in it" if settings.ALLOWED_HOSTS else "is empty"
    hint = "Set it to the names that people call the platform by, with commas."
    return [Error(f"ALLOWED_HOSTS {problem}.", hint=hint, id="flowplatform.E003")]


@register(PRODUCTION, Tags.security, deploy=True)
def check_cookies(**_: Any) -> Sequence[CheckMessage]:
    """A session that travels over plain HTTP is everybody's on the way."""
    if env.EMBEDDED or (settings.SESSION_COOKIE_SECURE and settings.CSRF_COOKIE_SECURE):
        return []
    if env.SECURE_COOKIES_ARE_OFF:
        sentence = "SECURE_COOKIES=false lets sessions travel over plain HTTP: for tests only."
        return [checks.Warning(sentence, id="flowplatform.W004")]
    hint = "Leave SESSION_COOKIE_SECURE and CSRF_COOKIE_SECURE as they are; SECURE_COOKIES=false is for tests."
    return [Error("Cookies are not restricted to HTTPS.", hint=hint, id="flowplatform.E004")]


@register(PRODUCTION, Tags.security, deploy=True)
def check_trusted_origins(**_: Any) -> Sequence[CheckMessage]:
    """Pages of a trusted origin act as whoever looks at them."""
    if env.EMBEDDED:
        return []
    return [
        Error(f"CSRF_TRUSTED_ORIGINS trusts {origin}.", hint="Name each origin in full.", id="flowplatform.E005")
        for origin in settings.CSRF_TRUSTED_ORIGINS
        if "*" in origin
    ]


@register(PRODUCTION, Tags.security, deploy=True)
def check_proxy_headers(**_: Any) -> Sequence[CheckMessage]:
    """Django would believe these headers of everybody, in every role; only web knows whether a proxy sends them."""
    if env.EMBEDDED or not (settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST):
        return []
    problem = "SECURE_PROXY_SSL_HEADER or USE_X_FORWARDED_HOST believes a header that anybody can send."
    hint = "Start web with --behind-proxy instead, where nobody but the proxy can reach it."
    return [Error(problem, hint=hint, id="flowplatform.E006")]


@register(PRODUCTION, Tags.security, deploy=True)
def check_database_role(**_: Any) -> Sequence[CheckMessage]:
    """Row-level security has to bind the role of the servers. A database that is away is no finding.

    Every server asks again when it has its first connection (`flowplatform/postgresql`).
    """
    if env.EMBEDDED:
        return []
    try:
        with psycopg.connect(env.DATABASE_URL, connect_timeout=_DATABASE_SECONDS) as connection:
            refuse_powerful_role(connection)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="flowplatform.E008")]
    except psycopg.Error:
        pass
    return []


@register(PRODUCTION, deploy=True)
def check_broker(**_: Any) -> Iterator[CheckMessage]:
    """A full broker has to refuse what is new. Asked once, by the worker and by people; silence is no finding."""
    if env.EMBEDDED or role.current() not in ("worker", "command"):
        return
    policy = _eviction_policy()
    if policy not in (None, "noeviction"):
        problem = f"The server of REDIS_URL drops what waits when it is full ({policy})."
        yield checks.Warning(problem, hint="Give it maxmemory-policy noeviction.", id="flowplatform.W007")


def _eviction_policy() -> str | None:
    limits = {"socket_timeout": _BROKER_SECONDS, "socket_connect_timeout": _BROKER_SECONDS}
    try:
        with redis.Redis.from_url(settings.REDIS_URL, retry=None, **limits) as client:
            # Not CONFIG GET, which hosted servers refuse.
            policy = client.info("memory").get("maxmemory_policy")
    except redis.RedisError:
        return None
    return policy if isinstance(policy, str) else None
