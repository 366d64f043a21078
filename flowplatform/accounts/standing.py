"""Whether what opened a socket still holds: a request is checked when it comes, a socket stays open for hours.

Asked for all sockets of a process at once: one statement about tokens and one about people, whatever their number.
Only what has ended is returned.
"""

import enum
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from flowplatform.accounts.models import Scope, User
from flowplatform.encoding import array_of


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A service token."""

    id: str


@dataclass(frozen=True, slots=True)
class SessionCredential:
    """The session of a person, who had this password when it was found valid: its digest, as of what is stored."""

    key: str
    user_id: UUID
    password: str

    @classmethod
    def of(cls, key: str, user: User) -> "SessionCredential":
        """Return the credential of a user's session that was just found valid."""
        return cls(key, user.pk, hashlib.sha256(user.password.encode()).hexdigest())


Credential = TokenCredential | SessionCredential


@dataclass(frozen=True, slots=True)
class Access:
    """Somebody's way to an organization. Sockets that were opened alike have equal ones."""

    credential: Credential
    organization_id: UUID


class Ending(enum.Enum):
    """What ended: the credential, or only that it leads to this organization."""

    CREDENTIAL = enum.auto()
    MEMBERSHIP = enum.auto()


_TOKENS = """
    SELECT wanted.place, token.id IS NULL
    FROM unnest(%(tokens)s::text[], %(organizations)s::uuid[])
         WITH ORDINALITY AS wanted (token_id, organization_id, place)
    LEFT JOIN LATERAL (
        SELECT token.id, account.organization_id FROM accounts_servicetoken AS token
        JOIN accounts_serviceaccount AS account ON account.id = token.service_account_id
        WHERE token.id = wanted.token_id AND NOT token.revoked AND %(scope)s::text = ANY(token.scopes)
          AND (token.expiry_date IS NULL OR token.expiry_date > statement_timestamp())
    ) AS token ON true
    WHERE token.id IS NULL OR NOT EXISTS (
        SELECT FROM accounts_organization AS organization WHERE organization.id = wanted.organization_id
          AND (token.organization_id IS NULL OR token.organization_id = organization.id)
    )
"""

# A session is bound to its user, and to the password of that moment: Django makes a new one for everything else.
_SESSIONS = """
    SELECT wanted.place, person.id IS NULL
    FROM unnest(%(keys)s::text[], %(users)s::uuid[], %(passwords)s::text[], %(organizations)s::uuid[])
         WITH ORDINALITY AS wanted (session_key, user_id, password, organization_id, place)
    LEFT JOIN LATERAL (
        SELECT person.id FROM accounts_user AS person CROSS JOIN django_session AS session
        WHERE person.id = wanted.user_id AND person.is_active
          AND encode(sha256(convert_to(person.password, 'UTF8')), 'hex') = wanted.password
          AND session.session_key = wanted.session_key AND session.expire_date > statement_timestamp()
    ) AS person ON true
    WHERE person.id IS NULL OR NOT EXISTS (
        SELECT FROM accounts_membership AS membership
        WHERE membership.user_id = wanted.user_id AND membership.organization_id = wanted.organization_id
    )
"""


def ended(accesses: Collection[Access]) -> Iterator[tuple[Access, Ending]]:
    """Yield those that no longer hold, with what ended; at most two statements.

    A credential holds while its token is neither revoked, expired nor deleted and may read, or while its session is
    there, its user active and the password the same. A role is not looked at: all of them may read.
    """
    tokens = {one: one.credential for one in accesses if isinstance(one.credential, TokenCredential)}
    if tokens:
        parameters = {"tokens": array_of(token.id for token in tokens.values()), "scope": Scope.READ.value}
        yield from _ended(list(tokens), _TOKENS, parameters)
    sessions = {one: one.credential for one in accesses if isinstance(one.credential, SessionCredential)}
    if sessions:
        parameters = {
            "keys": array_of(session.key for session in sessions.values()),
            "users": array_of(str(session.user_id) for session in sessions.values()),
            "passwords": array_of(session.password for session in sessions.values()),
        }
        yield from _ended(list(sessions), _SESSIONS, parameters)


def _ended(accesses: list[Access], statement: str, parameters: dict[str, str]) -> Iterator[tuple[Access, Ending]]:
    organizations = array_of(str(one.organization_id) for one in accesses)
    with connection.cursor() as cursor:
        cursor.execute(statement, {**parameters, "organizations": organizations})
        for place, is_credential in cursor.fetchall():
            yield accesses[place - 1], Ending.CREDENTIAL if is_credential else Ending.MEMBERSHIP
