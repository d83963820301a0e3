"""A PostgreSQL of one's own that may be killed and started again.

The tests' server belongs to a guard, which takes the end of the server for the end of the run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.pg_guard import Request, _Cluster
from tests.pg_launcher import DEFAULT_OPTIONS, find_installation
from tests.proof.server import ROOT, environment
from tests.scratch import private_directory

# An immediate restart loses what a commit did not write, so commits write, as on any real site.
# They need no fsync(): the machine goes on, and what was written is in its memory.
OPTIONS = {**DEFAULT_OPTIONS, "synchronous_commit": "on", "full_page_writes": "on"}


class Cluster:
    def __init__(self, directory: Path) -> None:
        installation = find_installation()
        self._cluster = _Cluster(directory)
        self._cluster.create(
            Request(
                parent=0,
                bin=str(installation.bin),
                tree=[str(tree) for tree in installation.tree],
                options=OPTIONS,
            )
        )
        self._cluster.start()
        self.url = (
            f"postgresql://postgres@/postgres?host={quote(str(self._cluster.home), safe='/')}"
        )

    def restart(self) -> None:
        """At once: every session ends as if the power had failed, and recovery follows."""
        self.stop()
        self._cluster.start()

    def stop(self) -> None:
        self._cluster.stop()

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """With the tables of the proof in it."""
    with private_directory("idem-proof-") as directory:
        own = Cluster(directory)
        try:
            subprocess.run(
                [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
                env=environment(own.url),
                cwd=ROOT,
                check=True,
            )
            yield own
        finally:
            own.stop()
