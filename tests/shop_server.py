"""The example project in a server of its own, on the database of the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds for it to answer


def database_url() -> str:
    """How another process reaches the database that the tests use now."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(parts._replace(path="/" + quote(name)))


@contextmanager
def running_shop(application: str = "example_project.wsgi", *, threads: int = 24) -> Iterator[str]:
    """Start gunicorn; its address. Other processes see only what the tests have committed."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        # The socket is ours, so there is no free port to guess and no moment without a listener.
        bind = f"fd://{listener.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "--bind", bind, "--threads", str(threads)]
        command += ["--log-level", "error", "--no-control-socket", application]
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **shop_settings()},
            pass_fds=[listener.fileno()],
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            _wait(url, server)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def shop_settings() -> dict[str, str]:
    """The environment of a process on the database that the tests use now."""
    return {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DATABASE_URL": database_url(),
        "DEBUG": "0",
        "SECRET_KEY": "a-server-for-tests-has-no-secrets",
        "ALLOWED_HOSTS": "127.0.0.1",
        "PYTHONWARNINGS": "ignore",
    }


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            httpx.get(f"{url}/checkout/", timeout=5).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    msg = f"The example project did not start; gunicorn returned {server.poll()}."
    raise RuntimeError(msg)
