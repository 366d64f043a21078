"""The role that the servers work as: it owns nothing, so row-level security binds it and it cannot switch that off."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

_POWERS = """
    SELECT current_user, rolsuper, rolbypassrls, coalesce(pg_has_role(relowner, 'MEMBER'), false)
    FROM pg_roles LEFT JOIN pg_class ON pg_class.oid = to_regclass('executions_flow') WHERE rolname = current_user
"""
_HINT = (
    "DATABASE_URL has to name a role that is a member of flowplatform_application and owns nothing;"
    " OWNER_DATABASE_URL is for the owner, who migrates."
)


def powers_of(connection: Any) -> str | None:
    """Say what lets the role of a psycopg connection pass row-level security by; `None` if nothing does."""
    name, is_superuser, may_bypass, is_owner = connection.execute(_POWERS).fetchone()
    if is_superuser:
        return f"the database role {name} is a superuser"
    if may_bypass:
        return f"the database role {name} has BYPASSRLS"
    return f"the database role {name} owns the tables, or may act as their owner" if is_owner else None


def refuse_powerful_role(connection: Any) -> None:
    """Raise ImproperlyConfigured if row-level security does not bind the role of a psycopg connection."""
    if power := powers_of(connection):
        raise ImproperlyConfigured(f"Row-level security would not hold: {power}. {_HINT}")
