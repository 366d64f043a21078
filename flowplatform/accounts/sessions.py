"""Sessions in the database, found only by keys of the form that we give out."""

import re

from django.contrib.sessions.backends import db

_KEY = re.compile(r"[a-z0-9]{32}")


class SessionStore(db.SessionStore):
    """A cookie may hold anything, even a NUL that PostgreSQL refuses: another key than ours is no session."""

    def _validate_session_key(self, key: object) -> bool:
        return isinstance(key, str) and _KEY.fullmatch(key) is not None
