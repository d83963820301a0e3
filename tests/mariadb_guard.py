"""The process that owns the tests' MariaDB: ``python -m tests.mariadb_guard <request>``.

As ``pg_guard``, of which it uses all that is not PostgreSQL's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from json import loads
from pathlib import Path

from tests.pg_guard import (
    START_SECONDS,
    STOP_SECONDS,
    StartError,
    end_with_the_guard,
    heed_signals,
    server_user,
    watch,
)
from tests.scratch import private_directory

OPTIONS = (
    "--skip-networking",  # a socket in a directory that is closed to others needs no password
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",  # what distributions set: it ignores case and spaces
    "--max-connections=300",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    # Nothing here outlives the run, so nothing here has to survive a power failure.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the tests ask for."""

    parent: int  # their process: when it is gone, so is the server
    server: str
    installer: str


class _Server:
    """One server and its files; ``home`` is the server's user's and closed to everyone else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "server"
        self.socket = self.home / "socket"
        self.log = directory / "log"
        self.user = server_user()
        self.process: subprocess.Popen[bytes] | None = None

    def create(self, request: Request) -> None:
        self.home.mkdir(mode=0o700)
        if self.user:
            self.directory.chmod(0o711)
            os.chown(self.home, self.user["user"], self.user["group"])
        made = subprocess.run(
            [
                request.installer,
                "--no-defaults",
                f"--datadir={self.home / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            capture_output=True,
            text=True,
            check=False,
            **self._surroundings(),
        )
        if made.returncode:
            msg = f"{request.installer} failed: {made.stdout}{made.stderr}"
            raise StartError(msg)

    def start(self, request: Request) -> None:
        own = (f"--datadir={self.home / 'data'}", f"--socket={self.socket}")
        files = (f"--pid-file={self.home / 'pid'}", f"--tmpdir={self.home}")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [request.server, "--no-defaults", *own, *files, *OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_the_guard(signal.SIGKILL),
                **self._surroundings(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise StartError(self.log.read_text(errors="replace"))
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop at once: the data is thrown away."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _is_ready(self) -> bool:
        """Whether the server greets, as it does once it accepts work."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            try:
                line.connect(str(self.socket))
                return bool(line.recv(1))
            except OSError:
                return False

    def _surroundings(self) -> dict[str, object]:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
        environment = {"PATH": path, "LC_ALL": "C", "HOME": str(self.home)}
        return {"cwd": self.home, "env": environment, **self.user}


def main(request: Request) -> None:
    asked_to_stop = heed_signals()
    with private_directory("idem-maria-") as directory:
        server = _Server(directory)
        server.create(request)
        try:
            server.start(request)
            watch(directory, request.parent, lambda: server.is_running, asked_to_stop)
        finally:
            server.stop()


if __name__ == "__main__":
    try:
        main(Request(**loads(sys.argv[1])))
    except StartError as error:
        sys.exit(str(error))
