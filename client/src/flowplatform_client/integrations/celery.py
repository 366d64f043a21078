"""Celery: what an app sends and its workers do shows up, without a change in its tasks.

    app = Celery("invoices", …)
    flowplatform_client.integrations.celery.report(app)

Do this where the app is made, so that it holds for whoever sends tasks and for the workers. Every canvas (chain, group,
chord) and every task that is sent by itself is a run: see docs/integrations.md for what maps to what.
"""

import functools
import json
import logging
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, ParamSpec, TypeVar

from celery import Celery, signals
from celery.app.task import Context
from celery.canvas import Signature, maybe_signature
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import IGNORED

from flowplatform_client.client import FlowPlatform
from flowplatform_client.errors import ConfigurationError
from flowplatform_client.integrations.canvas import STAMP, Canvas, Place, TooLargeError, leaves_of
from flowplatform_client.integrations.runs import PATIENCE_SECONDS, Runs
from flowplatform_client.reporter import described
from flowplatform_client.reporter.tasks import shortened

P = ParamSpec("P")
R = TypeVar("R")

FlowName = str | Callable[[Signature[Any]], str | None] | None

CLOSE_SECONDS = 5.0

_log = logging.getLogger("flowplatform_client.integrations")


def report(
    app: Celery,
    flow: FlowName = None,
    *,
    platform: FlowPlatform | None = None,
    arguments: bool = False,
    results: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> "Reporting":
    """Have the runs of an app reported.

    `flow` names the flow that a run belongs to: a name for all of them, or a function that is given what was sent and
    returns a name, or `None` for what is not to be shown. By default a flow is named after its tasks. `platform` is by
    default that of the environment; where FLOWPLATFORM_URL is not set nothing is reported. With `arguments` and
    `results` what the tasks are given and return is reported too. `patience_seconds` bounds how long sending waits for
    an answer of the platform.

    Raises nothing: reporting never breaks the work.
    """
    return _reporting_of(app) or Reporting(
        app, flow, platform, arguments=arguments, results=results, patience_seconds=patience_seconds
    )


class Reporting:
    """The reporting of one app: see `report`."""

    def __init__(
        self,
        app: Celery,
        flow: FlowName,
        platform: FlowPlatform | None,
        *,
        arguments: bool,
        results: bool,
        patience_seconds: float,
    ) -> None:
        self.app = app
        self._flow = flow
        self._arguments = arguments
        self._results = results
        try:
            self._runs = Runs(platform or FlowPlatform.from_environment(), patience_seconds=patience_seconds)
        except ConfigurationError as error:
            _log.warning("the tasks of %r are not reported: %s", app.main, error)
        else:
            app.send_task = self._sending(app.send_task)  # type: ignore[method-assign]
            _reported.append(self)
            _connect()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """End it, and wait at most `timeout` seconds until the platform has everything."""
        if self in _reported:
            _reported.remove(self)
            self._runs.close(timeout)

    def finish(self) -> None:
        """Do what is left to do at the end of a worker, without an end of the reporting."""
        self._runs.close(CLOSE_SECONDS)

    # --- What is sent ----------------------------------------------------------------------------------------------

    def launched(self, canvas: Signature[Any]) -> Signature[Any]:
        """Return what to send instead of a canvas: a copy whose tasks know their places in a new execution.

        A canvas that is sent as a part of a run, which its tasks know already, is returned as it is.
        """
        first = next(iter(leaves_of(canvas, self.app)), None)
        is_part = first is None or STAMP in first.options or _is_in_canvas.get()
        if is_part or self.app.conf.task_always_eager or self._replaces_current_task(canvas):
            return canvas
        return self._begun(canvas) or self._hidden(canvas)

    def sent(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return with which options to send a single task: those that begin an execution, unless it is part of one."""
        is_part = STAMP in options or _is_in_canvas.get()
        if is_part or self.app.conf.task_always_eager or self not in _reported:
            return options
        if current := self._current():
            place = Place.of(current.stamps)
            if place is None or current.id != options.get("task_id"):
                return options  # what a task sends while it runs is not a part of what it is a part of
            options = dict(options)
            self._replaced(current, place, options)
            return options
        if name.startswith("celery."):
            return options
        begun = self._begun(Signature(name, options={"link": options.get("link") or []}, app=self.app))
        if begun is None:
            return options
        stamps = [*(options.get("stamped_headers") or ()), *begun.options["stamped_headers"]]
        return {**options, **begun.options, "stamped_headers": stamps}

    def _sending(self, send_task: Callable[..., R]) -> Callable[..., R]:
        """Return the method that every message of the app goes through, preceded by `sent`."""

        @functools.wraps(send_task)
        def send(name: str, *args: Any, **options: Any) -> R:
            try:
                options = self.sent(name, options)
            except SoftTimeLimitExceeded:
                raise
            except Exception:
                _log.exception("a task could not be reported")
            return send_task(name, *args, **options)

        return send

    def _begun(self, sent: Signature[Any]) -> Signature[Any] | None:
        """Begin an execution of what is sent; return the copy whose tasks know it, `None` if it is not shown."""
        name = self._flow(sent) if callable(self._flow) else self._flow
        if name is None and callable(self._flow):
            return None
        try:
            canvas = Canvas(self.app, sent)
        except TooLargeError as error:
            _log.warning("a run that begins with %r is not shown: %s", sent.task, error)
            return None
        begun = self._runs.begin(name or canvas.name, canvas.definition, self._input())
        if begun is None:
            return None
        for leaf, place in canvas.places(begun.execution.id):
            place.stamp(leaf.options)
        return canvas.signature

    def _hidden(self, canvas: Signature[Any]) -> Signature[Any]:
        """Return a copy whose tasks know that they are not shown."""
        try:
            hidden = Canvas(self.app, canvas)
        except TooLargeError:  # then its parts may be runs of their own
            return canvas
        hidden.hide()
        return hidden.signature

    def _input(self) -> dict[str, Any]:
        """Return what an execution says of where it comes from."""
        current = self._current()
        parent = Place.of(current.stamps) if current else None
        sent_by = {"sent_by": {"execution_id": parent.execution_id, "task": parent.task}} if parent else {}
        return {"celery_app": self.app.main, **sent_by}

    def _replaces_current_task(self, canvas: Signature[Any]) -> bool:
        """Say whether the task that runs here has itself replaced by a canvas: its end is then that of the task."""
        current = self._current()
        place = Place.of(current.stamps) if current else None
        if place is None:
            return False
        leaves = list(leaves_of(canvas, self.app))
        last = next((leaf for leaf in leaves if leaf.options.get("task_id") == current.id), None)
        if last is None:
            return False
        for leaf in leaves:
            # Where one of them fails the last one never runs. What follows it has a place of its own.
            if leaf is not last and STAMP not in leaf.options:
                replace(place, is_inner=True).stamp(leaf.options)
        self._replaced(current, place, last.options)
        return True

    def _replaced(self, current: Any, place: Place, options: dict[str, Any]) -> None:
        """Have the place of the task that runs here taken by what is sent with these options."""
        place.stamp(options)
        current.flowplatform_replaced = True

    def _current(self) -> Any:
        """Return the request of the task that runs here, if one does."""
        task = self.app.current_worker_task
        return task.request if task else None

    # --- What runs -------------------------------------------------------------------------------------------------

    def running(self, request: Context) -> None:
        """Report that an attempt begins."""
        if place := self._place(request):
            given = {"args": request.args, "kwargs": request.kwargs} if self._arguments else {}
            self._tell(
                place,
                request,
                "running",
                started_at=_now(),
                input=_as_json({"task_id": request.id, "worker": request.hostname, **given}),
            )
            self._runs.followup.began(place.execution_id, place.tasks)

    def completed(self, request: Context, result: Any) -> None:
        """Report that an attempt went well, and with it perhaps the execution."""
        if place := self._place(request):
            output = {"output": _as_json(result)} if self._results else {}
            self._ended(place, request, "completed", **output)
            if place.last == 1:
                self._over(place, "completed")
            elif place.last:
                self._runs.followup.may_be_over(place.execution_id, place.tasks)

    def failed(self, request: Context, error: Mapping[str, str]) -> None:
        """Report that a task failed for good, and with it the execution: so does Celery's result of a canvas."""
        if place := Place.of(request.stamps):
            self._ended(place, request, "failed", error=error)
            self._over(place, "failed")

    def retried(self, request: Context, error: Mapping[str, str]) -> None:
        """Report that an attempt failed and another one follows."""
        if place := self._place(request):
            self._ended(place, request, "retried", error=error)

    def revoked(self, request: Context, why: str) -> None:
        """Report that a task was revoked, before it began or while it ran."""
        if place := Place.of(request.stamps):
            self._ended(place, request, "cancelled", error={"type": "revoked", "message": why})
            self._over(place, "cancelled")

    def ignored(self, request: Context) -> None:
        """Report that a task found out that it is not needed, and with it what would follow it."""
        place = self._place(request)
        if place is not None and not request.get("flowplatform_replaced"):
            self._ended(place, request, "skipped")
            self._runs.followup.broke(place.execution_id, place.tasks, place.task)
            self._runs.followup.may_be_over(place.execution_id, place.tasks)

    def _place(self, request: Context) -> Place | None:
        """Return the place of a task that is one of the execution, and no part of what one has replaced itself by."""
        place = Place.of(request.stamps)
        return None if place is None or place.is_inner else place

    def _ended(self, place: Place, request: Context, status: str, **says: Any) -> None:
        self._tell(place, request, status, completed_at=_now(), **says)

    def _over(self, place: Place, status: str) -> None:
        self._runs.status(place.execution_id, status)
        if status == "completed" or place.tasks == 1:
            self._runs.followup.is_over(place.execution_id)
        else:
            self._runs.followup.broke(place.execution_id, place.tasks, place.task)

    def _tell(self, place: Place, request: Context, status: str, **says: Any) -> None:
        """Report an attempt. A message that is delivered twice is the same attempt, and retries are further ones.

        Only attempts are told of, and no statuses: the processes that work on one task may report in any order, and the
        newest attempt decides its state all the same.
        """
        run = f"{request.id} {request.retries}"
        self._runs.attempt(place.execution_id, run, place.task, request.retries, status, **says)


_reported: list[Reporting] = []
_is_in_canvas: ContextVar[bool] = ContextVar("flowplatform_is_in_canvas", default=False)
_received: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()


def _reporting_of(app: Any) -> Reporting | None:
    return next((each for each in _reported if each.app == app), None)


def _harmless(handler: Callable[P, None]) -> Callable[P, None]:
    """Have what goes wrong in here logged, and nothing else."""

    @functools.wraps(handler)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            handler(*args, **kwargs)
        except SoftTimeLimitExceeded:  # it is meant for the task, whoever it interrupts
            raise
        except Exception:
            _log.exception("a task could not be reported")

    return guarded


# --- How we get to know ---------------------------------------------------------------------------------------------


@_harmless
def _on_received(request: Any, **_: Any) -> None:
    if STAMP in request.stamps:
        _received[request.id] = request


@_harmless
def _on_prerun(sender: Any, **_: Any) -> None:
    if reporting := _reporting_of(sender.app):
        reporting.running(sender.request)


@_harmless
def _on_success(sender: Any, result: Any, **_: Any) -> None:
    if reporting := _reporting_of(sender.app):
        reporting.completed(sender.request, result)


@_harmless
def _on_failure(sender: Any, task_id: str, exception: BaseException, einfo: Any, **_: Any) -> None:
    if reporting := _reporting_of(sender.app):
        request = sender.request
        if request.id != task_id:  # told by the parent of a process that was killed
            request = Context(_received[task_id].request_dict) if task_id in _received else None
        if request is not None:
            reporting.failed(request, _described(exception, einfo))


@_harmless
def _on_retry(sender: Any, request: Any, reason: Any, einfo: Any, **_: Any) -> None:
    if reporting := _reporting_of(sender.app):
        reporting.retried(request, _described(getattr(reason, "exc", None) or reason, einfo))


@_harmless
def _on_revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    if reporting := _reporting_of(sender.app):
        reporting.revoked(request, "terminated" if terminated else "expired" if expired else "revoked")


@_harmless
def _on_postrun(sender: Any, state: str, **_: Any) -> None:
    reporting = _reporting_of(sender.app) if state == IGNORED else None
    if reporting is not None:
        reporting.ignored(sender.request)


@_harmless
def _on_shutdown(**_: Any) -> None:
    for reporting in list(_reported):
        reporting.finish()


def _watched(apply_async: Callable[..., R]) -> Callable[..., R]:
    """Return the method that sends a canvas, preceded by the beginning of an execution.

    Messages do not tell of the whole canvas: those of a group do not know of each other.
    """

    @functools.wraps(apply_async)
    def watched(canvas: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> R:
        copy = canvas
        try:
            if reporting := _reporting_of(canvas.app):
                whole, without_body = _with_body(canvas, kwargs)
                copy = reporting.launched(whole)
                if copy is not whole:
                    kwargs = without_body
                else:
                    copy = canvas
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            _log.exception("a canvas could not be reported")
        token = _is_in_canvas.set(True)  # what is not shown as a whole is not shown task by task
        try:
            result = apply_async(copy, args, kwargs, *rest, **options)
        finally:
            _is_in_canvas.reset(token)
        if copy is not canvas and "task_id" in copy.options:
            canvas.options["task_id"] = copy.options["task_id"]  # a chain takes on the id of its last task
        return result

    return watched


def _with_body(canvas: Signature[Any], kwargs: Any) -> tuple[Signature[Any], Any]:
    """Return a chord with the body that it is called with, and what else it is called with."""
    if canvas.subtask_type != "chord" or not (kwargs or {}).get("body"):
        return canvas, kwargs
    whole = canvas.clone()
    whole.kwargs["body"] = maybe_signature(kwargs["body"], app=canvas.app)
    return whole, {name: value for name, value in kwargs.items() if name != "body"}


@functools.cache
def _connect() -> None:
    """Listen to Celery, once for all apps of this process."""
    for signal, handler in (
        (signals.task_received, _on_received),
        (signals.task_prerun, _on_prerun),
        (signals.task_success, _on_success),
        (signals.task_failure, _on_failure),
        (signals.task_retry, _on_retry),
        (signals.task_revoked, _on_revoked),
        (signals.task_postrun, _on_postrun),
        (signals.worker_process_shutdown, _on_shutdown),
        (signals.worker_shutdown, _on_shutdown),
    ):
        signal.connect(handler, weak=False)
    for kind in ("chain", "group", "chord"):
        canvas = Signature.TYPES[kind]
        setattr(canvas, "apply_async", _watched(canvas.apply_async))


def _described(error: BaseException, einfo: Any) -> Mapping[str, str]:
    """Return an error as JSON. One that was not raised itself but handed to `retry` has no traceback of its own."""
    found = described(error)
    if error.__traceback__ is not None or einfo is None:
        return found
    return {**found, "traceback": shortened(str(einfo.traceback))}


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it, with texts for what it does not have."""
    try:
        return json.loads(json.dumps(value, default=repr, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
