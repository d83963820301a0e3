"""The example project's settings, as in production: no DEBUG, so no log of queries."""

from __future__ import annotations

import os

from example_project.settings import *  # noqa: F403 -- so one settings module extends another

DEBUG = False
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "localhost"]  # noqa: F405
SECRET_KEY = "a-benchmark-has-nothing-to-hide-but-it-signs-fingerprints"  # noqa: S105
INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks"]  # noqa: F405 -- from the example's settings
ROOT_URLCONF = "benchmarks.views"
if os.environ.get("BENCHMARK_PREPARED"):
    # What a site sets that talks to PostgreSQL directly, or through a pooler that knows
    # prepared statements: each statement is parsed and planned once a connection.
    DATABASES["default"]["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 5}  # noqa: F405
