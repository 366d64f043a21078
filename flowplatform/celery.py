"""The Celery application of the worker role."""

import os

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("worker")  # Django loads this file in the other processes too; those have claimed their own role by then

from celery import Celery  # noqa: E402

app = Celery("flowplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
