"""The example project's settings on databases made for the tests.

TEST_DB               postgres (default), mariadb or sqlite
DATABASE_URL          a server to use instead of a private one; sqlite ignores it
TEST_ATOMIC_REQUESTS  1: every request in a transaction, as many sites have it

The databases start here, because pytest-django reads the settings before any conftest.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from example_project.settings import *  # noqa: F403 -- so one settings module extends another
from example_project.settings import database

ALIASES = ("default", "other")  # the other one is for database routers

_until_exit = ExitStack()
atexit.register(_until_exit.close)


def _server_databases(start: Callable[[], str]) -> dict[str, Any]:
    url = os.environ.get("DATABASE_URL") or start()
    databases = {alias: database(url) for alias in ALIASES}
    for alias, entry in databases.items():
        entry["CONN_MAX_AGE"] = 0  # a test's threads must not keep their connections
        entry["TEST"] = {"NAME": f"test_{entry['NAME']}_{alias}"}
    return databases


def _start_postgres() -> str:
    from tests.pg_launcher import Cluster  # here: it needs POSIX, a DATABASE_URL does not

    cluster = _until_exit.enter_context(Cluster())
    origin, seconds = cluster.installation.origin, cluster.start_seconds
    sys.stderr.write(f"PostgreSQL from {origin}, ready in {seconds:.1f} s\n")
    # Our children use it, too: workers of pytest-xdist, servers under test.
    os.environ["DATABASE_URL"] = cluster.url
    return cluster.url


def _start_mariadb() -> str:
    from tests.mariadb_launcher import MariaDB  # here: as above

    server = _until_exit.enter_context(MariaDB())
    sys.stderr.write(f"MariaDB, ready in {server.start_seconds:.1f} s\n")
    os.environ["DATABASE_URL"] = server.url
    return server.url


def _sqlite_databases() -> dict[str, Any]:
    # Files: in memory, a second connection fails at once instead of waiting for the writer.
    from tests.scratch import private_directory  # here: as above

    directory = _until_exit.enter_context(private_directory("idem-sqlite-"))
    databases = {alias: database(f"sqlite:///{directory}/{alias}") for alias in ALIASES}
    for entry in databases.values():
        entry["TEST"] = {"NAME": entry["NAME"]}
    return databases


match os.environ.get("TEST_DB", "postgres"):
    case "postgres":
        DATABASES = _server_databases(_start_postgres)
    case "mariadb":
        DATABASES = _server_databases(_start_mariadb)
    case "sqlite":
        DATABASES = _sqlite_databases()
    case _unknown:
        _message = f"TEST_DB must be postgres, mariadb or sqlite, not {_unknown!r}."
        raise ImproperlyConfigured(_message)

# Not on the second one: pytest-django lets few tests reach it.
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("TEST_ATOMIC_REQUESTS") == "1"

SECRET_KEY = "the-tests-need-a-key-but-nothing-to-hide"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, for tests only
INSTALLED_APPS = [*INSTALLED_APPS, "tests.orders"]  # noqa: F405 -- from the example's settings
ROOT_URLCONF = "tests.urls"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
