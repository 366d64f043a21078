"""What the audit record knows of. docs/audit.md says what each action means; the database refuses any other."""

from django.db.models import TextChoices

# ruff: noqa: S105  (no passwords here, whatever their names)


class Action(TextChoices):
    """What was done or tried."""

    SIGN_IN = "sign_in"
    LOCKOUT = "sign_in.lockout"
    UNLOCKED = "sign_in.unlocked"
    SIGN_OUT = "sign_out"

    TOKEN_CREATED = "token.created"
    TOKEN_CHANGED = "token.changed"
    TOKEN_REVOKED = "token.revoked"
    TOKEN_DELETED = "token.deleted"
    ACCOUNT_CREATED = "service_account.created"
    ACCOUNT_CHANGED = "service_account.changed"
    ACCOUNT_DELETED = "service_account.deleted"

    MEMBER_ADDED = "member.added"
    MEMBER_CHANGED = "member.changed"
    MEMBER_REMOVED = "member.removed"
    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    USER_DELETED = "user.deleted"
    PASSWORD_CHANGED = "user.password_changed"
    GROUP_CREATED = "staff_group.created"
    GROUP_CHANGED = "staff_group.changed"
    GROUP_DELETED = "staff_group.deleted"
    ORGANIZATION_CREATED = "organization.created"
    ORGANIZATION_CHANGED = "organization.changed"
    ORGANIZATION_DELETED = "organization.deleted"

    ACCESS_REFUSED = "access.refused"
    ACCESS_UNKNOWN = "access.unknown"
    CREDENTIAL_REFUSED = "credential.refused"

    TAGS_CHANGED = "tags.changed"
    TAGS_RESTORED = "tags.restored"
    EVENTS_RETRIED = "events.retried"
    DATA_EXPORTED = "data.exported"
    DATA_REMOVED = "data.removed"
    DATA_RESTORED = "data.restored"
    HISTORY_DROPPED = "history.dropped"
    AUDIT_DROPPED = "audit.dropped"


class Outcome(TextChoices):
    """What became of it."""

    DONE = "done"
    REFUSED = "refused"


class Kind(TextChoices):
    """What an actor is."""

    USER = "user"
    SERVICE = "service"
    COMMAND = "command"
    TASK = "task"
    DATABASE = "database"  # a statement that nobody put a name to, such as one by hand
    ANONYMOUS = "anonymous"
