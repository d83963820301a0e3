"""The benchmark's settings with one database more for each size in SCALE_ROWS."""

from __future__ import annotations

import os

from benchmarks.scale.shards import alias_of
from benchmarks.settings import *  # noqa: F403 -- so one settings module extends another

ROOT_URLCONF = "example_project.urls"  # with the admin, which is searched
ALLOWED_HOSTS = ["testserver"]
DATABASES |= {  # noqa: F405 -- from the example's settings
    alias_of(int(rows)): DATABASES["default"] | {"NAME": alias_of(int(rows))}  # noqa: F405
    for rows in os.environ["SCALE_ROWS"].split(",")
}
DATABASE_ROUTERS = ["benchmarks.scale.shards.Router"]
