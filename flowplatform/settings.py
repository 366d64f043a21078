"""Settings of Flow Platform. What differs between installations comes from the environment (`flowplatform.env`)."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from flowplatform import embedded, env, role

BASE_DIR = env.BASE_DIR
DATA_DIR = env.DATA_DIR

DEBUG = env.DEBUG
if env.SECRET_KEY:
    SECRET_KEY = env.SECRET_KEY
elif env.EMBEDDED:
    SECRET_KEY = embedded.secret_key(DATA_DIR)
else:
    raise ImproperlyConfigured("SECRET_KEY is not set: with DATABASE_URL set, set SECRET_KEY to 50 random characters.")
ALLOWED_HOSTS = env.ALLOWED_HOSTS or (["127.0.0.1", "localhost", "[::1]"] if env.EMBEDDED else [])
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS

INSTALLED_APPS = [
    "daphne",
    "rest_framework_api_key",  # before accounts, which takes its own table out of the admin
    "flowplatform",
    "flowplatform.pages",
    "flowplatform.accounts",
    "flowplatform.idempotency",
    "notifications",
    "executions",
    "tags",
    "unfold",  # after ours, which replace some of its templates and its Alpine, and before Django's admin
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "flowplatform.middleware.RequestIdMiddleware",
    "flowplatform.bodies.BodyMiddleware",
    "flowplatform.middleware.ContentSecurityPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "flowplatform.middleware.UnavailableMiddleware",
    "flowplatform.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "flowplatform.middleware.AuthenticationMiddleware",
    "flowplatform.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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


def _database() -> dict[str, Any]:
    """The one database. What serves keeps its connections and has short time limits; commands may take their time."""
    database: dict[str, Any] = dict(dj_database_url.parse(env.DATABASE_URL or embedded.database_url(DATA_DIR)))
    options: dict[str, Any] = {
        # Django plans every statement anew unless it is prepared on the server.
        "server_side_binding": True,
        "prepare_threshold": 2,
        "connect_timeout": 5,
    }
    if role.current() != "command":
        options["connect_timeout"] = 2
        options["options"] = (
            "-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=15000"
        )
        # A connection for each of the few threads. A pool of the same size would lend and take back at every request,
        # and every statement would be prepared on all of its connections.
        database["CONN_MAX_AGE"] = None
        database["CONN_HEALTH_CHECKS"] = True
    options = {**database.get("OPTIONS", {}), **options}
    database["HOST"] = options.pop("host", database["HOST"])  # of a socket's folder in the URL; `dbshell` looks here
    database["OPTIONS"] = options
    database["ENGINE"] = "flowplatform.postgresql"
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# --- Valkey or Redis ----------------------------------------------------------------------------------------------

REDIS_URL = env.REDIS_URL or embedded.redis_url(DATA_DIR)


def _redis_database(number: int) -> str:
    """The URL of a numbered database: the broker and the channel layer do not share one."""
    url = urlsplit(REDIS_URL)
    query = [(name, value) for name, value in parse_qsl(url.query) if name != "db"]
    if url.scheme == "unix":
        return f"unix://{url.path}?{urlencode([*query, ('db', number)])}"
    if url.path.strip("/") not in ("", "0"):
        raise ImproperlyConfigured("REDIS_URL names a database: leave it out, the platform uses the databases 0 and 1.")
    return urlunsplit(url._replace(path=f"/{number}", query=urlencode(query)))


def _celery_url(url: str) -> str:
    """Kombu has a scheme and a parameter of its own for Unix sockets."""
    if not url.startswith("unix://"):
        return url
    return url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=", 1)


CHANNEL_LAYERS = {
    "default": {
        # Not the core layer: there a process has one bounded inbox that drops silently when full.
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            # redis-py's own socket_timeout would end an idle subscription after 5 s.
            "hosts": [{"address": _redis_database(1), "socket_timeout": 15, "socket_connect_timeout": 1}],
            "prefix": "flowplatform",
        },
    }
}

CELERY_BROKER_URL = _celery_url(_redis_database(0))
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker as long as it takes
CELERY_BROKER_CONNECTION_TIMEOUT = 0.5
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 0.5
if role.current() == "worker":
    # The worker blocks on reads: its socket timeout must exceed the blocking read.
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {"socket_timeout": 15, "socket_connect_timeout": 2}
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "socket_timeout": 1,
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
    "keep-history": {"task": "executions.keep_history", "schedule": 3600.0, "options": {"expires": 3600}},
}

HISTORY_RETENTION_DAYS = env.HISTORY_RETENTION_DAYS  # of the status history; 0 keeps everything


# --- Delivery of events (notifications) ---------------------------------------------------------------------------

EVENT_RETENTION_HOURS = 24  # a client away for longer gets a reset and refetches
SOCKETS_PER_ACTOR = 100  # in one live process; one more is closed with 4429
SOCKETS_PER_PROCESS = 5_000
SOCKETS_PORT = env.SOCKETS_PORT  # told to the pages; None: the sockets are where the page is
SOCKET_MAX_AGE_HOURS = 6  # sockets are closed with 1012 after this and come back


# --- HTTP ---------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "flowplatform.accounts.authentication.ServiceTokenAuthentication",
        "flowplatform.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
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
    "VERSION": "0.1.0",
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

SESSION_ENGINE = "flowplatform.accounts.sessions"
SESSION_COOKIE_NAME = "flowplatform_session"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.SECURE_COOKIES
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

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": env.LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},  # every 404 is not worth a line
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
    },
}
