"""The demo organization, with a login and a service token that stay the same from one start to the next.

Their plain text is kept in `<data dir>/demo.json`, readable by its owner only, so that every start can show them.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flowplatform.accounts.models import SCOPES, Organization, Role, User
from flowplatform.accounts.services import (
    authenticate_token,
    ensure_member,
    ensure_organization,
    issue_service_token,
)
from flowplatform.audit.authors import Author
from flowplatform.audit.writing import acting

_ORGANIZATION = "demo"
_USERNAME = "admin"


@dataclass(frozen=True)
class DemoCredentials:
    """Who may do what on the demo platform. The password is `None` if a person has changed it."""

    organization: str
    username: str
    password: str | None
    token: str


@acting(Author("command:up"))
def ensure_demo(data_dir: Path) -> DemoCredentials:
    """Return credentials that work, made anew where the kept ones are lost, revoked or of another database."""
    path = data_dir / "demo.json"
    kept = _read(path)
    organization = ensure_organization(slug=_ORGANIZATION, name="Demo")
    credentials = DemoCredentials(
        organization=organization.slug,
        username=_USERNAME,
        password=_ensure_login(organization, kept),
        token=_ensure_token(organization, kept.get("token")),
    )
    if asdict(credentials) != kept:
        _write(path, json.dumps(asdict(credentials), indent=2))
    return credentials


def _ensure_login(organization: Organization, kept: Mapping[str, str | None]) -> str | None:
    """Return the password of a staff login that administers the organization; `None` if a person has changed it."""
    user, is_new = User.objects.get_or_create(username=_USERNAME, defaults={"is_staff": True, "is_superuser": True})
    ensure_member(user=user, organization=organization, role=Role.ADMIN)
    password = kept.get("password")
    if "password" in kept and not is_new:
        return password if password and user.check_password(password) else None
    password = password or secrets.token_urlsafe(9)
    user.set_password(password)
    user.save(update_fields=["password"])
    return password


def _ensure_token(organization: Organization, kept: str | None) -> str:
    """Return the kept token if it still speaks for the organization, else a new one."""
    actor = authenticate_token(kept) if kept is not None else None
    if kept is not None and actor is not None and actor.organization_ids == frozenset([organization.id]):
        return kept
    return issue_service_token(organization=organization, name="demo", scopes=SCOPES)


def _read(path: Path) -> dict[str, str | None]:
    """Return what was kept; nothing if there is no file, or one that somebody has damaged."""
    try:
        kept = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {key: value for key, value in kept.items() if value is None or isinstance(value, str)}


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole; it is private from its first byte."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(draft).replace(path)
