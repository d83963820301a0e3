"""A private PgBouncer in transaction mode, as small as it may be: three server connections."""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.scratch import private_directory

PATIENCE = 20  # seconds
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits,options
logfile = {directory}/log
"""
PREPARED = "max_prepared_statements = 100\n"


def program() -> str | None:
    """Where PgBouncer is, which Debian hides from users' PATH."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


@functools.cache
def knows_prepared() -> bool:
    """Whether it follows statements that are prepared by the protocol, as from 1.21 on."""
    name = program()
    assert name is not None
    shown = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", shown)
    assert found is not None, shown
    return (int(found[1]), int(found[2])) >= (1, 21)


@contextmanager
def pgbouncer(upstream: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run it before ``upstream``; yields the entries of a ``DATABASES`` item to reach it."""
    name = program()
    assert name is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    with private_directory("idem-pgbouncer-") as directory:
        settings = {
            "host": upstream["HOST"],
            "port": upstream["PORT"] or 5432,
            "user": upstream["USER"] or "postgres",
            "password": upstream["PASSWORD"] or "none",
            "listen": listen,
            "directory": directory,
        }
        configuration = directory / "pgbouncer.ini"
        text = CONFIGURATION.format(**settings)
        configuration.write_text(text + PREPARED if knows_prepared() else text)
        arguments = [name, "-q", str(configuration)]
        if os.geteuid() == 0:  # it refuses root
            arguments[1:1] = ["-u", "nobody"]
            shutil.chown(directory, "nobody")
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        try:
            _wait(listen, process, directory)
            yield {"HOST": "127.0.0.1", "PORT": listen}
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    log = directory / "log"
    raise RuntimeError(log.read_text() if log.exists() else "PgBouncer did not start")
