"""The example project's settings, as in production: no DEBUG, so no log of queries."""

from __future__ import annotations

from example_project.settings import *  # noqa: F403 -- so one settings module extends another

DEBUG = False
SECRET_KEY = "a-benchmark-has-nothing-to-hide-but-it-signs-fingerprints"  # noqa: S105
INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks"]  # noqa: F405 -- from the example's settings
ROOT_URLCONF = "benchmarks.views"
