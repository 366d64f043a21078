"""Sign-ins, told by the signals of Django's sign-in: it offers nothing else, and both of our forms go through it.

`note_lockout` is for whoever locks people out: it has the form of a receiver of django-axes' `user_locked_out`.
"""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from flowplatform.audit.authors import NOWHERE, Author, origin_of, person
from flowplatform.audit.floods import Flood
from flowplatform.audit.vocabulary import Action, Outcome
from flowplatform.audit.writing import Entry, Subject, record, record_alone, unless_away
from flowplatform.throttling.requests import charged, is_refused

_failures, _lockouts = Flood(), Flood()


def note_sign_in(*, request: HttpRequest, user: Any, **_: Any) -> None:
    """Record a sign-in. Without its record there is none: the database holds the session, too."""
    record(Entry(Action.SIGN_IN, person(user, origin_of(request)), subject=_subject(user)))


def note_sign_out(*, request: HttpRequest, user: Any, **_: Any) -> None:
    """Record a sign-out of somebody who was signed in. Nobody is kept from leaving."""
    if user is not None:
        record_alone(Entry(Action.SIGN_OUT, person(user, origin_of(request)), subject=_subject(user)))


def note_failure(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Record a sign-in that failed, within bounds."""
    _note_refusal(_failures, Action.SIGN_IN, request, credentials.get("username"))


def note_lockout(*, request: HttpRequest | None = None, username: str | None = None, **_: Any) -> None:
    """Record that somebody was locked out for failing too often, within bounds.

    Nobody is whose address has no attempts left, whatever names it tries: django-axes is told so to refuse it.
    """
    if request is not None and is_refused(charged(request)):
        return
    _note_refusal(_lockouts, Action.LOCKOUT, request, username)


def _note_refusal(flood: Flood, action: Action, request: HttpRequest | None, username: object) -> None:
    origin = origin_of(request) if request else NOWHERE
    user = _user_of(username)
    details = flood.count((origin.address, user and user.pk))
    if details:
        entry = Entry(action, Author(origin=origin), Outcome.REFUSED, subject=_subject(user), details=details)
        record_alone(entry)


def _user_of(username: object) -> Any:
    """Return the user of that name. What is no name of ours is not kept: people type passwords into the wrong field."""
    if not isinstance(username, str) or "\0" in username:
        return None
    return unless_away(get_user_model()._default_manager.filter(username=username).first)


def subject_named(username: str) -> Subject:
    """Return the user of that name as a subject, or nobody's."""
    return _subject(_user_of(username))


def _subject(user: Any) -> Subject:
    return Subject("user", str(user.pk), user.get_username()) if user else Subject("user", text="unknown user name")


user_logged_in.connect(note_sign_in)
user_logged_out.connect(note_sign_out)
user_login_failed.connect(note_failure)
