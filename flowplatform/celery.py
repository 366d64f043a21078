"""The Celery application of the worker role."""

import os
import sys
from typing import Any

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("worker")  # Django loads this file in the other processes too; those have claimed their own role by then

from celery import Celery, Task  # noqa: E402
from celery.signals import beat_init, setup_logging, task_prerun, worker_init, worker_process_init  # noqa: E402
from django.db import close_old_connections  # noqa: E402
from django_structlog.celery.steps import DjangoStructLogInitStep  # noqa: E402
from structlog.contextvars import bind_contextvars  # noqa: E402

from flowplatform import metrics, telemetry  # noqa: E402
from flowplatform.metrics import endpoint  # noqa: E402


class MeasuredTask(Task):  # type: ignore[type-arg]
    """A task whose time and failures are counted, and whose name is in the lines of its log."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bind_contextvars(task=self.name)
        with metrics.task_seconds.labels(self.name).time(), metrics.task_failures.labels(self.name).count_exceptions():
            return self.run(*args, **kwargs)


app = Celery("flowplatform", task_cls=MeasuredTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)

# Celery would close the database connection before and after every task, whatever CONN_MAX_AGE says, and the relay has
# several a second. A thread keeps its connection here as in the other roles, and it is looked at before each task.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
def _begin_task(**_: Any) -> None:
    close_old_connections()


@setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """Celery sets logging up its own way unless somebody listens here: Django's settings have done it."""


@worker_process_init.connect
@worker_init.connect
def _begin_traces(**_: Any) -> None:
    telemetry.start()


@worker_init.connect
@beat_init.connect
def _tell_figures(**_: Any) -> None:
    """Worker and beat have no HTTP: they answer Prometheus on a port of their own, if they are given one."""
    endpoint.serve()
