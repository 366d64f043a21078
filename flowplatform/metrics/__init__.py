"""Every figure that the platform tells Prometheus, in one place: what is counted, and by which words.

Whoever does a thing counts it: `metrics.hints.labels("sent").inc(12)`. Labels are words of the code (a route's pattern,
a status, a task's name), never what a client sent and never a tenant: their number is bounded, and whoever runs the
platform may see them.

`flowplatform.metrics.files` says how several processes count together, `flowplatform.metrics.endpoint` who may read.
docs/operations.md says what to watch.
"""

import os
import platform

from prometheus_client import Counter, Gauge, Histogram

from flowplatform import role
from flowplatform.metrics import files
from flowplatform.version import VERSION

files.share_if_asked()  # before the first figure is made

# A status batch takes about a millisecond, a large page a second; a request ends after 30 s at the proxy.
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# An event should arrive within 2 s, and within 15 s when Valkey or Celery is away.
_LAG_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300)

# --- What runs ----------------------------------------------------------------------------------------------------

processes = Gauge(
    "flowplatform_processes",
    "Processes that run, by role and version.",
    ["role", "version", "python"],
    multiprocess_mode="livesum",
)

# --- HTTP (flowplatform/middleware/requests.py) -----------------------------------------------------------------

http_requests = Counter(
    "flowplatform_http_requests", "Requests answered, by the pattern of their route.", ["method", "route", "status"]
)
http_seconds = Histogram(
    "flowplatform_http_request_duration_seconds",
    "From the first middleware to the answer; a streamed answer ends later.",
    ["method", "route"],
    buckets=_REQUEST_SECONDS,
)
database_unavailable = Counter(
    "flowplatform_database_unavailable", "Requests answered 503 for want of the database, by SQLSTATE.", ["sqlstate"]
)

# --- Batches (executions, tags) ------------------------------------------------------------------------------------

batch_items = Histogram(
    "flowplatform_batch_items",
    "Items of batches that were answered, replays included. The count is that of the batches, the sum that of items.",
    ["kind"],
    buckets=(1, 2, 5, 10, 20, 50, 100),
)
idempotent_replays = Counter(
    "flowplatform_idempotent_replays", "Batches that were answered as before, because their Idempotency-Key was known."
)

# --- The relay (notifications/relay.py and who calls it) ------------------------------------------------------------

relay_lag = Histogram(
    "flowplatform_relay_lag_seconds",
    "From an event's insertion, just before its commit, until it was numbered, and until it was sent.",
    ["stage"],
    buckets=_LAG_SECONDS,
)
relayed_events = Counter(
    "flowplatform_relayed_events", "Events numbered: by a worker (task), a live process (live) or a person.", ["by"]
)
relay_failures = Counter("flowplatform_relay_failures", "Passes that the database refused; the sweep tries again.")
swept_flows = Counter(
    "flowplatform_swept_flows", "Flows that the sweep found waiting for longer than a second: their hint was lost."
)
# The next three are set by the sweep, which comes every second: where they stand still, nobody sweeps.
swept_at = Gauge(
    "flowplatform_sweep_timestamp_seconds", "When the sweep last ended, since 1970.", multiprocess_mode="mostrecent"
)
events_waiting = Gauge(
    "flowplatform_events_waiting", "Committed events without a number.", multiprocess_mode="livemostrecent"
)
events_oldest = Gauge(
    "flowplatform_events_oldest_age_seconds",
    "How long the oldest event without a number has waited.",
    multiprocess_mode="livemostrecent",
)
layer_sends = Counter("flowplatform_layer_sends", "Passes of news to the channel layer: sent or failed.", ["outcome"])

# --- Hints to the workers (notifications/notifier.py) ---------------------------------------------------------------

hints = Counter(
    "flowplatform_hints",
    "Flows with news that the broker was told of (sent), or not: it failed, the breaker was open (withheld), or there"
    " were too many (dropped).",
    ["outcome"],
)
hint_breakers_open = Gauge(
    "flowplatform_hint_breakers_open",
    "Processes that do not tell the broker for now, because it failed.",
    multiprocess_mode="livesum",
)

# --- Sockets (notifications/consumers.py, feed.py) ------------------------------------------------------------------

sockets = Gauge("flowplatform_sockets", "Sockets that watch something now.", ["kind"], multiprocess_mode="livesum")
socket_closes = Counter(
    "flowplatform_socket_closes",
    "Sockets that ended: by our close code, or by the client, or with the server.",
    ["kind", "code"],
)
socket_frames = Counter(
    "flowplatform_socket_frames", "Frames of news, counted once for every socket that they were for.", ["kind"]
)
socket_replays = Counter(
    "flowplatform_socket_replays",
    "Sockets that asked for what they missed, and got it (replayed) or a reset.",
    ["outcome"],
)
feed_readings = Counter(
    "flowplatform_feed_readings", "Times that a live process read from the database what the channel layer lost."
)
feed_resets = Counter("flowplatform_feed_resets", "Resets of all sockets of a flow.")

# --- Celery tasks (flowplatform/celery.py) --------------------------------------------------------------------------

task_seconds = Histogram(
    "flowplatform_task_duration_seconds",
    "How long Celery tasks took, failed ones too. The count is that of the tasks.",
    ["task"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
)
task_failures = Counter("flowplatform_task_failures", "Celery tasks that raised an exception.", ["task"])


def _announce() -> None:
    if role.current() != "command":
        processes.labels(role.current(), VERSION, platform.python_version()).set(1)


_announce()
os.register_at_fork(after_in_child=_announce)  # after that of `files`: a child writes to files of its own
