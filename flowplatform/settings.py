"""Settings of Flow Platform. What differs between installations comes from the environment (`flowplatform.env`)."""

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dj_database_url
from csp.constants import NONE, SELF

from flowplatform import embedded, env, logs, role
from flowplatform.version import VERSION

role.claim("command")  # whoever serves has said so by now

BASE_DIR = env.BASE_DIR
DATA_DIR = env.DATA_DIR

DEBUG = env.DEBUG
# Empty where there is none: commands do without, what serves refuses to (flowplatform/checks.py).
SECRET_KEY = env.SECRET_KEY or (embedded.secret_key(DATA_DIR) if env.EMBEDDED else "")
ALLOWED_HOSTS = env.ALLOWED_HOSTS or (["127.0.0.1", "localhost", "[::1]"] if env.EMBEDDED else [])
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS

INSTALLED_APPS = [
    "daphne",
    "rest_framework_api_key",  # before accounts, which takes its own table out of the admin
    "flowplatform",
    "flowplatform.pages",
    "flowplatform.accounts",
    "flowplatform.audit",
    "flowplatform.idempotency",
    "notifications",
    "executions",
    "tags",
    # After ours, which replace some of its templates and its Alpine, and before Django's admin, whose site is ours.
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "flowplatform.admin_config.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "channels",
    "django_structlog",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
]

MIDDLEWARE = [
    "flowplatform.middleware.requests.RequestIdMiddleware",
    "flowplatform.bodies.BodyMiddleware",
    "flowplatform.middleware.database.TenancyMiddleware",
    "flowplatform.middleware.refusals.AuditMiddleware",
    "flowplatform.middleware.policy.ContentSecurityPolicyMiddleware",
    "flowplatform.middleware.requests.OperationsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "flowplatform.middleware.database.UnavailableMiddleware",
    "flowplatform.middleware.people.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "flowplatform.middleware.people.AuthenticationMiddleware",
    "flowplatform.middleware.limits.RateLimitMiddleware",
    "flowplatform.middleware.people.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",  # the last, as it asks: it replaces what a locked sign-in was answered
]

ROOT_URLCONF = "flowplatform.urls"
WSGI_APPLICATION = "flowplatform.wsgi.application"
ASGI_APPLICATION = "flowplatform.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


# --- PostgreSQL ---------------------------------------------------------------------------------------------------

WEB_THREADS = 2  # of one web process
HTTP_THREADS = 8  # for HTTP in one live process
SOCKET_THREADS = 4  # database reads for the sockets of one process

# Seconds, of what serves; docs/limits.md has them all. Commands may take their time.
DATABASE_CONNECT_SECONDS = 2
DATABASE_STATEMENT_SECONDS = 5
DATABASE_LOCK_SECONDS = 2
DATABASE_IDLE_IN_TRANSACTION_SECONDS = 15
# The longest that a connection is waited for when it says nothing at all (flowplatform/postgresql): the server is gone
# without a word, or something in between swallows. A worker's task moves rows of the history in one statement.
DATABASE_SERVING_ANSWER_SECONDS = 7
DATABASE_WORKER_ANSWER_SECONDS = 1_800
DATABASE_ANSWER_SECONDS = {
    "web": DATABASE_SERVING_ANSWER_SECONDS,
    "live": DATABASE_SERVING_ANSWER_SECONDS,
    "worker": DATABASE_WORKER_ANSWER_SECONDS,
}.get(role.current())
DATABASE_KEEPALIVE_SECONDS = 10  # a peer that vanished is noticed in half a minute, while we wait for it and while not


def _database() -> dict[str, Any]:
    """The one database. What serves keeps its connections and has short time limits; commands may take their time.

    Commands work as the owner of the tables, everything else as a role that owns nothing: row-level security binds it.
    """
    if role.current() == "command":
        url = env.OWNER_DATABASE_URL or embedded.owner_database_url(DATA_DIR)
    else:
        url = env.DATABASE_URL or embedded.database_url(DATA_DIR)
    database: dict[str, Any] = dict(dj_database_url.parse(url))
    options: dict[str, Any] = {
        # Django plans every statement anew unless it is prepared on the server.
        "server_side_binding": True,
        "prepare_threshold": 2,
        "connect_timeout": 5,
        "keepalives_idle": DATABASE_KEEPALIVE_SECONDS,
        "keepalives_interval": DATABASE_KEEPALIVE_SECONDS // 2,
        "keepalives_count": 3,
        "tcp_user_timeout": DATABASE_KEEPALIVE_SECONDS * 1000,
    }
    if role.serves():
        options["connect_timeout"] = DATABASE_CONNECT_SECONDS
        options["options"] = (
            f"-c statement_timeout={DATABASE_STATEMENT_SECONDS}s -c lock_timeout={DATABASE_LOCK_SECONDS}s"
            f" -c idle_in_transaction_session_timeout={DATABASE_IDLE_IN_TRANSACTION_SECONDS}s"
        )
        # A connection for each of the few threads. A pool of the same size would lend and take back at every request,
        # and every statement would be prepared on all of its connections.
        database["CONN_MAX_AGE"] = None
        database["CONN_HEALTH_CHECKS"] = True
    options = {**database.get("OPTIONS", {}), **options}
    database["HOST"] = options.pop("host", database["HOST"])  # of a socket's folder in the URL; `dbshell` looks here
    database["OPTIONS"] = options
    database["DISABLE_SERVER_SIDE_CURSORS"] = True  # outside of a transaction they would not know whose rows to show
    database["ENGINE"] = "flowplatform.postgresql"
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# --- Valkey or Redis ----------------------------------------------------------------------------------------------

REDIS_URL = env.REDIS_URL or embedded.redis_url(DATA_DIR)


def _redis_database(number: int) -> str:
    """The URL of a numbered database: the broker, the channel layer and the limits share none."""
    url = urlsplit(REDIS_URL)
    query = [(name, value) for name, value in parse_qsl(url.query) if name != "db"]
    if url.scheme == "unix":
        return f"unix://{url.path}?{urlencode([*query, ('db', number)])}"
    if url.path.strip("/") not in ("", "0"):
        env.refuse("REDIS_URL names a database: leave it out, the platform uses the databases 0 to 2.")
    return urlunsplit(url._replace(path=f"/{number}", query=urlencode(query)))


def _celery_url(url: str) -> str:
    """Kombu has a scheme and a parameter of its own for Unix sockets."""
    if not url.startswith("unix://"):
        return url
    return url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=", 1)


LAYER_READ_SECONDS = 15  # redis-py's own limit would end an idle subscription after 5
BROKER_READ_SECONDS = 15  # of a worker, which blocks on reads: longer than the blocking read
BROKER_ANSWER_SECONDS = 1  # to what is published

CHANNEL_LAYERS = {
    "default": {
        # Not the core layer: there a process has one bounded inbox that drops silently when full.
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {"address": _redis_database(1), "socket_timeout": LAYER_READ_SECONDS, "socket_connect_timeout": 1}
            ],
            "prefix": "flowplatform",
        },
    }
}

CELERY_BROKER_URL = _celery_url(_redis_database(0))
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_PUBLISH_RETRY = False
# Seconds, for workers of processes (`--pool prefork`). Threads, which ours have, cannot be stopped: there every wait
# within a task has a limit of its own.
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 90
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker as long as it takes
CELERY_BROKER_CONNECTION_TIMEOUT = 0.5
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 0.5
if role.current() == "worker":
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "socket_timeout": BROKER_READ_SECONDS,
        "socket_connect_timeout": 2,
    }
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_timeout": BROKER_ANSWER_SECONDS,
        "socket_connect_timeout": 0.5,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.05,
        "interval_max": 0.1,
    }
CELERY_BEAT_SCHEDULE = {
    # `expires`: what a stopped worker did not take is not worth doing twice (seconds).
    "sweep": {"task": "notifications.sweep", "schedule": 1.0, "options": {"expires": 5}},
    "prune-keys": {"task": "idempotency.prune", "schedule": 600.0, "options": {"expires": 600}},
    "prune": {"task": "notifications.prune", "schedule": 300.0, "options": {"expires": 300}},
    "prune-accounts": {"task": "accounts.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    "keep-history": {"task": "executions.keep_history", "schedule": 3600.0, "options": {"expires": 3600}},
    "keep-audit": {"task": "audit.keep", "schedule": 3600.0, "options": {"expires": 3600}},
    "remove-deleted": {"task": "executions.remove_deleted", "schedule": 600.0, "options": {"expires": 600}},
}


# --- How long what is kept (docs/retention.md): 0 keeps everything ------------------------------------------------

EVENT_RETENTION_HOURS = env.EVENT_RETENTION_HOURS  # a client away for longer gets a reset and refetches
HISTORY_RETENTION_DAYS = env.HISTORY_RETENTION_DAYS  # of the status history, by whole months
AUDIT_RETENTION_DAYS = env.AUDIT_RETENTION_DAYS  # of the audit record, by whole months
DELETED_EXECUTION_RETENTION_DAYS = env.DELETED_EXECUTION_RETENTION_DAYS
TOKEN_RETENTION_DAYS = env.TOKEN_RETENTION_DAYS  # after they were revoked or expired


# --- Delivery of events (notifications) ---------------------------------------------------------------------------

# In one live process; one more is closed with 4429.
SOCKETS_PER_ACTOR = env.SOCKETS_PER_ACTOR
SOCKETS_PER_ADDRESS = env.SOCKETS_PER_ADDRESS
SOCKETS_PER_PROCESS = env.SOCKETS_PER_PROCESS
SOCKETS_WAITING = env.SOCKETS_WAITING  # for the answer to who they are
SOCKETS_PORT = env.SOCKETS_PORT  # told to the pages; None: the sockets are where the page is
SOCKET_MAX_AGE_HOURS = 6  # sockets are closed with 1012 after this and come back


# --- How much may be asked for (flowplatform/throttling, docs/limits.md) -------------------------------------------

NO_LIMIT = env.NO_LIMIT
RATE_LIMITS = {
    "token": env.RATE_LIMIT_TOKEN,
    "person": env.RATE_LIMIT_PERSON,
    "organization": env.RATE_LIMIT_ORGANIZATION,
    "address": env.RATE_LIMIT_ADDRESS,
    "anonymous": env.RATE_LIMIT_ANONYMOUS,
    "failures": env.RATE_LIMIT_FAILURES,
    "sign_ins": env.RATE_LIMIT_SIGN_INS,
    "sockets": env.RATE_LIMIT_SOCKETS,
    "sockets_address": env.RATE_LIMIT_SOCKETS_ADDRESS,
}
LIMITS_URL = _redis_database(2)


# --- HTTP ---------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "flowplatform.accounts.authentication.ServiceTokenAuthentication",
        "flowplatform.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["flowplatform.accounts.throttles.ActorThrottle"],
    "DEFAULT_PARSER_CLASSES": ["flowplatform.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["flowplatform.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "flowplatform.renderers.AlwaysJSON",
    "DEFAULT_SCHEMA_CLASS": "flowplatform.openapi.operations.Operation",
    "EXCEPTION_HANDLER": "flowplatform.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Flow Platform",
    "DESCRIPTION": (
        "Workers report task statuses, people review and tag, browsers watch. See the README for a tour.\n\n"
        "Rows of other organizations do not exist: they are 404. Errors have a code and repeat the request's id. "
        "Bodies have at most 1 MiB and 16 levels; a NUL character anywhere is 422. Clients ignore fields of answers "
        "that they do not know."
    ),
    "TAGS": [
        {"name": "flows", "description": "Flows and their immutable versions."},
        {"name": "flow executions", "description": "Runs of flows."},
        {"name": "task statuses", "description": "What workers report, and the history that it makes."},
        {"name": "task executions", "description": "Attempts of tasks, and what people edit in them."},
        {"name": "task outputs", "description": "The state of every task, derived from what was reported."},
        {"name": "task tags", "description": "What people and services decide about tasks, with a trail."},
        {"name": "events", "description": "What the sockets carry, for clients that poll or missed something."},
    ],
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.1",  # pydantic's JSON schemas are of its dialect
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": [],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/",
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string", "format": "uuid"}},
    "POSTPROCESSING_HOOKS": ["flowplatform.openapi.document.complete"],
}

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "flow-list-page"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

AUTHENTICATION_BACKENDS = [
    "flowplatform.accounts.lockout.SignInBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_FAILURE_LIMIT = env.SIGN_IN_FAILURES
AXES_COOLOFF_TIME = timedelta(minutes=env.SIGN_IN_LOCKOUT_MINUTES)  # since the last failure that counted
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # both together: a stranger locks out nobody but themselves
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # nor does an attempt write a row then
AXES_CLIENT_IP_CALLABLE = "flowplatform.accounts.lockout.address"
AXES_LOCKOUT_CALLABLE = "flowplatform.accounts.lockout.answer"
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken"]  # kept out of its log and its rows
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False  # ours are in flowplatform/accounts/lockout_admin.py
AXES_VERBOSE = False

SESSION_ENGINE = "flowplatform.accounts.sessions"
SESSION_COOKIE_NAME = "flowplatform_session"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.SECURE_COOKIES
# Sent with what came over HTTPS. Django says it, so the proxy does not.
SECURE_HSTS_SECONDS = env.HSTS_SECONDS
SILENCED_SYSTEM_CHECKS = [
    # HSTS for subdomains and for the browsers' own lists binds hosts that are not ours to speak for.
    "security.W005",
    "security.W021",
    # The proxy leads from HTTP to HTTPS (deploy/nginx-tls.conf). Behind it every server is asked by plain HTTP, by
    # health checks too: Django would send them away.
    "security.W008",
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Pages have neither code nor styles in their HTML, and need no other host. 'self' includes sockets on the page's own
# port; the middleware adds SOCKETS_PORT.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "worker-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
# What the pages below a path may do beyond that, for markup that is not ours: {"/path/": {"style-src": ["..."]}}.
# Each needs its reason here, and is listed in tests/test_csp.py.
CONTENT_SECURITY_POLICY_EXCEPTIONS: dict[str, dict[str, list[str]]] = {}

# The theme of the admin. What is named by a path is in flowplatform/admin_site.py.
UNFOLD = {
    "SITE_TITLE": "Flow Platform",
    "SITE_HEADER": "Flow Platform",
    "SITE_ICON": "flowplatform.admin_site.mark",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "flowplatform.admin_site.mark"}],
    "SITE_URL": "/",
    "STYLES": ["flowplatform.admin_site.styles_of_tokens", "flowplatform.admin_site.styles"],
    "SCRIPTS": ["flowplatform.admin_site.shell"],
    "GLOBAL_CALLBACK": "flowplatform.admin_site.without_inline_colors",
    "DASHBOARD_CALLBACK": "flowplatform.dashboard.add_to",
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "navigation": "flowplatform.admin_site.navigation",
    },
}

STATIC_URL = "static/"
# Without a folder to collect them in (an image has one) the files are served from the apps themselves, so that a
# newcomer has no step to forget.
STATIC_ROOT = env.STATIC_ROOT or None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
WHITENOISE_AUTOREFRESH = DEBUG

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "flowplatform.formats"

LOGGING = logs.configuration(form=env.LOG_FORMAT, level=env.LOG_LEVEL, requests=env.LOG_REQUESTS)
logging.captureWarnings(env.LOG_FORMAT == "json")
# django-structlog carries what a line says over to Celery's tasks, and tells of those that fail.
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL = DJANGO_STRUCTLOG_CELERY_TASK_SUCCESS_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_CELERY_TASK_FAILURE_LOG_LEVEL = logging.ERROR
