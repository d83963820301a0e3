"""The example project's own pages, as in production: no DEBUG, so no log of queries."""

from __future__ import annotations

from example_project.settings import *  # noqa: F403 -- so one settings module extends another

DEBUG = False
SECRET_KEY = "a-benchmark-has-nothing-to-hide-but-it-signs-sessions"  # noqa: S105
ALLOWED_HOSTS = ["testserver"]
