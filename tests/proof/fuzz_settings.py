"""A site that hostile requests are sent to: the example's settings, on what DATABASE_URL names.

TEST_ATOMIC_REQUESTS  1: every request in a transaction
FUZZ_IDEMPOTENCY      the ``IDEMPOTENCY`` setting, as JSON
"""

from __future__ import annotations

import json
import os
from typing import Any

from example_project.settings import *  # noqa: F403 -- so one settings module extends another
from example_project.settings import DATABASES, INSTALLED_APPS

if DATABASES["default"]["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("TEST_ATOMIC_REQUESTS") == "1"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.orders"]
ROOT_URLCONF = "tests.proof.fuzz_urls"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
}
IDEMPOTENCY: dict[str, Any] = json.loads(os.environ.get("FUZZ_IDEMPOTENCY", "{}"))
# Tracebacks of what is answered 500 go to stderr, where the test finds them.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
