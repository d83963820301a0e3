"""A PostgreSQL of one's own that may be killed, started again, copied and replaced.

The tests' server belongs to a guard, which takes the end of the server for the end of the run.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.pg_guard import STOP_SECONDS, Request, _Cluster
from tests.pg_launcher import DEFAULT_OPTIONS, find_installation
from tests.proof.server import ROOT, environment
from tests.scratch import private_directory

__all__ = ["Blank", "Cluster", "Program", "blank", "cluster", "home_of", "url_of"]

# An immediate restart loses what a commit did not write, so commits write, as on any real site.
# They need no fsync(): the machine goes on, and what was written is in its memory.
OPTIONS = {
    **DEFAULT_OPTIONS,
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_retrieve_retry_interval": "100ms",  # of a replica, until its primary is there again
}


class Program(_Cluster):
    """One server, whose files need not come from ``initdb``."""

    def __init__(self, directory: Path, fill: Callable[[Program], None] | None) -> None:
        super().__init__(directory)
        self._fill = fill

    def _initdb(self) -> None:
        if self._fill is None:
            super()._initdb()
        else:
            self._fill(self)

    def _is_ready(self) -> bool:
        if super()._is_ready():
            return True
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "standby"

    def run(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the user of the server."""
        subprocess.run(
            [self.bin / name, *arguments], check=True, capture_output=True, **self._surroundings()
        )


def home_of(directory: Path) -> Path:
    return Program(directory, None).home


def url_of(*directories: Path, **options: str) -> str:
    """Several: whichever of them takes writes at the moment."""
    if len(directories) > 1:
        options["target_session_attrs"] = "read-write"
    hosts = quote(",".join(str(home_of(directory)) for directory in directories), safe="")
    more = "".join(f"&{name}={value}" for name, value in options.items())
    return f"postgresql://postgres@/postgres?host={hosts}{more}"


class Cluster:
    """Started in ``directory``, which may hold the remains of another."""

    def __init__(self, directory: Path, fill: Callable[[Program], None] | None = None) -> None:
        installation = find_installation()
        self.program = Program(directory, fill)
        shutil.rmtree(self.program.home, ignore_errors=True)
        self.program.create(
            Request(
                parent=0,
                bin=str(installation.bin),
                tree=[str(tree) for tree in installation.tree],
                options=OPTIONS,
            )
        )
        self.program.start()
        self.url = url_of(directory)

    def restart(self) -> None:
        """At once: every session ends as if the power had failed, and recovery follows."""
        self.stop()
        self.program.start()

    def stop(self) -> None:
        self.program.stop()

    def shut_down(self) -> None:
        """In good order, with nothing left to recover."""
        server = self.program.server
        assert server is not None
        server.send_signal(signal.SIGINT)
        server.wait(STOP_SECONDS)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)


class Blank:
    """Files with the tables of the proof in them, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        made = Cluster(directory)
        try:
            subprocess.run(
                [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
                env=environment(made.url),
                cwd=ROOT,
                check=True,
            )
            made.shut_down()
        finally:
            made.stop()

    def copy(self, program: Program) -> None:
        source = home_of(self._directory) / "data"
        subprocess.run(["cp", "-a", source, program.data], check=True)  # noqa: S607 - the owner stays


@contextmanager
def blank() -> Iterator[Blank]:
    with private_directory("idem-proof-") as directory:
        yield Blank(directory)


@contextmanager
def cluster(blank: Blank) -> Iterator[Cluster]:
    """With the tables of the proof in it."""
    with private_directory("idem-proof-") as directory:
        own = Cluster(directory, blank.copy)
        try:
            yield own
        finally:
            own.stop()
