"""Where the benchmarks run: on a PostgreSQL of their own that flushes to disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.core.management import call_command

from tests.pg_launcher import Cluster

__all__ = ["FLUSHING", "database"]

FLUSHING = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@contextmanager
def database() -> Iterator[Cluster]:
    """Start it, set Django up on it, make the tables. Models can be imported from here on."""
    with Cluster(FLUSHING) as cluster:
        os.environ["DATABASE_URL"] = cluster.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield cluster
