"""The audit record: who signed in, who changed what people and programs may do, what was refused, who decided."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """A table that is only ever added to, and those who write into it."""

    name = "flowplatform.audit"
    label = "audit"
    verbose_name = "audit"

    def ready(self) -> None:
        # It connects itself to the signals of Django's sign-in, whose models are there now.
        from axes.signals import user_locked_out

        from flowplatform.audit import sign_ins

        user_locked_out.connect(sign_ins.note_lockout)
