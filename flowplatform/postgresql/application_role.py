"""The role that the servers work as: it owns nothing, so row-level security binds it and it cannot switch that off."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

# A role may act as any that it is a member of, however far away.
_POWERS = """
    SELECT current_user, bool_or(rolsuper), bool_or(rolbypassrls), bool_or(EXISTS (
        SELECT FROM pg_class WHERE relowner = pg_roles.oid AND (relrowsecurity OR oid = to_regclass('executions_flow'))
    ))
    FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')
"""
_HINT = (
    "DATABASE_URL has to name a role that is a member of flowplatform_application and owns nothing;"
    " OWNER_DATABASE_URL is for the owner, who migrates."
)


def powers_of(connection: Any) -> str | None:
    """Say what lets the role of a psycopg connection pass row-level security by; `None` if nothing does."""
    name, is_superuser, may_bypass, is_owner = connection.execute(_POWERS).fetchone()
    if is_superuser:
        return f"the database role {name} is a superuser, or may act as one"
    if may_bypass:
        return f"the database role {name} has BYPASSRLS, or may act as one that has"
    return f"the database role {name} owns the tables, or may act as their owner" if is_owner else None


def refuse_powerful_role(connection: Any) -> None:
    """Raise ImproperlyConfigured if row-level security does not bind the role of a psycopg connection."""
    if power := powers_of(connection):
        raise ImproperlyConfigured(f"Row-level security would not hold: {power}. {_HINT}")
