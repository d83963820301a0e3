"""The process that owns the tests' PostgreSQL: ``python -m tests.pg_guard <request>``.

It creates a cluster, starts the server, prints the cluster's directory and waits. When the
tests end it, or end, it stops the server and deletes the directory. It uses the standard
library only, and nothing of the environment but PATH and TMPDIR.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from json import loads
from pathlib import Path
from typing import Any

from tests.scratch import private_directory

START_SECONDS = 60.0  # a start takes less than one; a loaded CI machine may need more
STOP_SECONDS = 10.0
WATCH_SECONDS = 0.1  # how often to look whether the tests still live


class StartError(RuntimeError):
    """The server did not start; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the tests ask for."""

    parent: int  # their process: when it is gone, so is the server
    bin: str  # where initdb and postgres are
    tree: list[str]  # to copy if the server's user cannot reach ``bin``; the first contains it
    options: dict[str, str | int]  # for postgresql.conf


class StopRequest:
    """Remembers that somebody asked this process to end.

    Not a ``threading.Event``: its lock may be held by the very code that a signal interrupts,
    and then the handler waits for ever.
    """

    def __init__(self) -> None:
        self._seen, self._told = os.pipe()

    def make(self) -> None:
        os.write(self._told, b".")

    def wait(self, seconds: float) -> bool:
        """Whether it was made, before or within that time."""
        return bool(select.select([self._seen], [], [], seconds)[0])


def heed_signals() -> StopRequest:
    """Return what is made when somebody asks this process to end."""
    asked_to_stop = StopRequest()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: asked_to_stop.make())
    return asked_to_stop


def watch(
    directory: Path, parent: int, is_running: Callable[[], bool], asked_to_stop: StopRequest
) -> None:
    """Tell the tests where the server is, and return when they end it, or end."""
    sys.stdout.write(f"{directory}\n")
    sys.stdout.flush()
    while is_running() and os.getppid() == parent:
        if asked_to_stop.wait(WATCH_SECONDS):
            break


def guard(request: Request) -> None:
    """Run a server until the tests end it, or end."""
    asked_to_stop = heed_signals()
    with private_directory("idem-pg-") as directory:
        cluster = _Cluster(directory)
        cluster.create(request)
        try:
            cluster.start()
            watch(directory, request.parent, lambda: cluster.is_running, asked_to_stop)
        finally:
            cluster.stop()


class _Cluster:
    """One server and its files, all below ``directory``.

    ``directory`` belongs to us; ``home`` in it belongs to the server's user and is closed to
    everyone else, so that the server's socket needs no password.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "server"
        self.data = self.home / "data"
        self.log = directory / "log"
        self.user = server_user()
        self.bin: Path
        self.server: subprocess.Popen[bytes] | None = None

    def create(self, request: Request) -> None:
        self.home.mkdir(mode=0o700)
        if self.user:
            self.directory.chmod(0o711)
            os.chown(self.home, self.user["user"], self.user["group"])
        self.bin = self._reachable_bin(Path(request.bin), [Path(tree) for tree in request.tree])
        self._initdb()
        settings = {"unix_socket_directories": self.home, **request.options}
        with (self.data / "postgresql.conf").open("a") as configuration:
            for name, value in settings.items():
                quoted = str(value).replace("'", "''")
                configuration.write(f"{name} = '{quoted}'\n")

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_the_guard(signal.SIGQUIT),
                **self._surroundings(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise StartError(self.log.read_text(errors="replace"))
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop at once, open connections or not: the data is thrown away."""
        if self.server is None:
            return
        self.server.send_signal(signal.SIGQUIT)  # does nothing to a server that has ended
        try:
            self.server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    @property
    def is_running(self) -> bool:
        return self.server is not None and self.server.poll() is None

    def _is_ready(self) -> bool:
        # The socket opens before the server accepts work; its status file tells them apart.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"  # line 8 holds the state

    def _initdb(self) -> None:
        arguments = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(
            [self.bin / "initdb", f"--pgdata={self.data}", "--no-sync", *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._surroundings(),
        )
        if made.returncode:
            hint = f"Can the user 'nobody' enter {self.directory.parent}? If not, set TMPDIR."
            msg = f"initdb failed: {made.stdout}{made.stderr}{hint if self.user else ''}"
            raise StartError(msg)

    def _reachable_bin(self, place: Path, trees: list[Path]) -> Path:
        """Return a bin directory the server's user can use: ``place``, or a copy of it."""
        if self._can_use(place):
            return place
        for tree in filter(Path.is_dir, trees):
            if not (self.directory / tree.name).exists():  # a replica's primary has copied it
                shutil.copytree(tree, self.directory / tree.name, symlinks=True)
        if trees:
            copy = self.directory / place.relative_to(trees[0].parent)
            if self._can_use(copy):
                return copy
        msg = (
            f"The tests run as root, PostgreSQL runs as the user 'nobody', and 'nobody' cannot "
            f"use {place}. Run the tests as an ordinary user, or set DATABASE_URL."
        )
        raise StartError(msg)

    def _can_use(self, place: Path) -> bool:
        try:
            subprocess.run(
                [place / "postgres", "--version"],
                capture_output=True,
                check=True,
                **self._surroundings(),
            )
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _surroundings(self) -> dict[str, Any]:
        """Return user, directory and environment: no PG* variable or locale of the caller."""
        path = os.environ.get("PATH", os.defpath)
        environment = {"PATH": path, "LC_ALL": "C", "HOME": str(self.home)}
        return {"cwd": self.home, "env": environment, **self.user}


def server_user() -> dict[str, Any]:
    """Return whom a server's programs run as: they refuse root, so root becomes nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def end_with_the_guard(number: signal.Signals) -> partial[int] | None:
    """Return what ties a child's life to ours, for the child to call (Linux only).

    It covers the one case in which we cannot clean up: somebody kills the guard itself.
    """
    if sys.platform != "linux":
        return None
    pr_set_pdeathsig = 1  # <linux/prctl.h>
    return partial(ctypes.CDLL(None).prctl, pr_set_pdeathsig, number)


def main(request: Mapping[str, Any]) -> None:
    try:
        guard(Request(**request))
    except StartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(loads(sys.argv[1]))
