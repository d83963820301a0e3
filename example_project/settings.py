"""Settings of the example project: one command runs it, one variable moves it to PostgreSQL.

DATABASE_URL   sqlite:///demo.sqlite3 (default), postgresql://…, mysql://…
DEBUG          1 (default) or 0
SECRET_KEY     required when DEBUG is 0
ALLOWED_HOSTS  names separated by commas, when DEBUG is 0
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def database(url: str) -> dict[str, Any]:
    """Return the ``DATABASES`` entry for a URL such as ``postgresql://user:secret@host/shop``.

    What follows the ``?`` becomes ``OPTIONS``. PostgreSQL's ``host=`` there names the
    directory of a Unix socket, as in libpq.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    entry: dict[str, Any] = {
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or parts.hostname or "",
        "PORT": parts.port or "",
    }
    match parts.scheme:
        case "postgresql" | "postgres":
            return _postgresql(entry, options)
        case "mysql":
            return _mysql(entry, options)
        case "sqlite":
            return _sqlite(entry["NAME"], options)
    msg = f"DATABASE_URL must start with postgresql://, mysql:// or sqlite:///, not {url!r}."
    raise ImproperlyConfigured(msg)


def _postgresql(entry: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    # A worker that hangs inside a transaction holds its key. The server frees the key of one
    # that is silent for a minute, and notices within a second when one is gone in mid-statement.
    session = {
        "idle_in_transaction_session_timeout": "60s",
        "client_connection_check_interval": "1s",
    }
    flags = " ".join(f"-c {name}={value}" for name, value in session.items())
    return entry | {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 60,  # seconds
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"options": flags, "connect_timeout": 5, **options},
    }


def _mysql(entry: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    # The usual driver, mysqlclient, has to be compiled; this one in plain Python does, too.
    if find_spec("MySQLdb") is None and find_spec("pymysql") is not None:
        import_module("pymysql").install_as_MySQLdb()
    return entry | {
        "ENGINE": "django.db.backends.mysql",
        "CONN_MAX_AGE": 60,  # seconds
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed", **options},
    }


def _sqlite(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / name,  # an absolute name, sqlite:////…, stays what it is
        "OPTIONS": {
            # Readers go on while one request writes, and a transaction takes its turn as a
            # writer when it begins. One that begins as a reader cannot wait for that turn:
            # it fails with "database is locked". Leave `synchronous` at FULL: with NORMAL a
            # power failure takes back what was committed and answered.
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,  # seconds to wait for the turn
            **options,
        },
    }


DEBUG = os.environ.get("DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        msg = "Set SECRET_KEY to a long random string when DEBUG is 0."
        raise ImproperlyConfigured(msg)
    SECRET_KEY = "insecure-demo-key-never-use-it-where-anyone-else-can-connect"  # noqa: S105 -- only in DEBUG
ALLOWED_HOSTS = [name for name in os.environ.get("ALLOWED_HOSTS", "").split(",") if name]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_idempotency",
    "django_idempotency.contrib.outbound",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

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

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

DATABASES = {"default": database(os.environ.get("DATABASE_URL") or "sqlite:///demo.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}

IDEMPOTENCY: dict[str, Any] = {}  # the defaults are meant to be used
