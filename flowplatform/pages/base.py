"""What every page for signed-in people shares."""

from typing import Any
from uuid import UUID

from django.contrib.auth.mixins import LoginRequiredMixin
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from flowplatform import tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import User
from flowplatform.accounts.services import actor_of_user
from flowplatform.audit.authors import origin_of
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, Subject, record, storable
from flowplatform.encoding import encode
from flowplatform.pages.waiting import MANY, count_waiting

# Inside of a script element only these could end it, or begin a comment.
_ESCAPED = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


def script_json(value: Any) -> SafeString:
    """Return a value as JSON for `<script type="application/json">`, with all microseconds of its times."""
    return mark_safe(encode(value).decode().translate(_ESCAPED))  # noqa: S308  (escaped right here)


@method_decorator(never_cache, name="dispatch")  # a stored page would tell the time of another day
class MemberPage(LoginRequiredMixin, TemplateView):
    """A page for people who are signed in. They see the rows of their organizations and nothing else."""

    section = "flows"

    @cached_property
    def actor(self) -> Actor:
        """Who looks."""
        assert isinstance(self.request.user, User)
        actor = actor_of_user(self.request.user)
        tenancy.show(actor.shown)
        setattr(self.request, "actor", actor)  # for who logs it
        return actor

    def record_export(self, subject: Subject, organization_id: UUID | None) -> None:
        """Say in the audit record that the reader was given a file. Without its record there is none."""
        author = self.actor.as_author(origin_of(self.request))
        details = {"path": storable(self.request.get_full_path(), 500)}
        entry = Entry(Action.DATA_EXPORTED, author, organization_id=organization_id, subject=subject, details=details)
        record(entry)

    @property
    def origin(self) -> str:
        """Scheme, host and port as the reader's browser knows them: what a pasted command must call."""
        return f"{self.request.scheme}://{self.request.get_host()}"

    @cached_property
    def review_count(self) -> str:
        """How much waits for a decision, as the link to it says: "" for nothing."""
        count = count_waiting(self.actor)
        return f"{MANY - 1}+" if count >= MANY else str(count or "")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            section=self.section,
            server_time=timezone.now(),
            review_count=lambda: self.review_count,  # asked where the frame is drawn, not for a part of a page
            **kwargs,
        )
