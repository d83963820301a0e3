"""gunicorn with the views of the proof, and who its workers are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds; a start takes two, on a machine with nothing else to do
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Server:
    port: int
    pid: int

    def workers(self) -> list[int]:
        """The children of gunicorn's master; those that are dead and not yet reaped excepted."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, parent = status.read_text().rsplit(")", 1)[1].split()[:2]
                if int(parent) == self.pid and state != "Z":
                    found.append(int(status.parent.name))
        return sorted(found)


def environment(url: str, *, plant: str = "", keep: int = 0) -> dict[str, str]:
    """``plant`` names a mistake from ``plants``; connections are kept for ``keep`` seconds."""
    return {
        **os.environ,
        "PROOF_PLANT": plant,
        "PROOF_CONN_MAX_AGE": str(keep),
        "DATABASE_URL": url,
        "TEST_DB": "mariadb" if url.startswith("mysql:") else "postgres",
        "DJANGO_SETTINGS_MODULE": "tests.proof.settings",
    }


@contextmanager
def gunicorn(url: str, workers: int, **options: Any) -> Iterator[Server]:
    """Serve ``tests.proof.served`` on the database at ``url``; ``options`` as above."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        arguments = ["--bind", f"fd://{listener.fileno()}", "--workers", str(workers), "--preload"]
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments, "tests.proof.served:application"],
            env=environment(url, **options),
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Server(listener.getsockname()[1], process.pid)
        try:
            deadline = time.monotonic() + PATIENCE
            while len(server.workers()) < workers:
                assert process.poll() is None, "gunicorn ended"
                assert time.monotonic() < deadline, "gunicorn did not start"
                time.sleep(0.05)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
