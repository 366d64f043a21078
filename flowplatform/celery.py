"""The Celery application of the worker role."""

import os
import sys
from typing import Any

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("worker")  # Django loads this file in the other processes too; those have claimed their own role by then

from celery import Celery  # noqa: E402
from celery.signals import task_prerun  # noqa: E402
from django.db import close_old_connections  # noqa: E402

app = Celery("flowplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Celery would close the database connection before and after every task, whatever CONN_MAX_AGE says, and the relay has
# several a second. A thread keeps its connection here as in the other roles, and it is looked at before each task.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
def _begin_task(**_: Any) -> None:
    close_old_connections()
