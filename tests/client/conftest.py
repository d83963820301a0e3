from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests

from django_idempotency.client import AsyncRetryingClient, RetryingClient
from tests.client.server import Script, scripted

TRUST = ssl.create_default_context()  # made once: each client would spend 50 ms on its own


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits between attempts; how long one would have is noted here, in seconds."""
    noted: list[float] = []

    async def note(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=noted.append))
    monkeypatch.setattr("stamina._core._smart_sleep", note)
    return noted


@pytest.fixture
def serve() -> Iterator[Callable[..., Script]]:
    with ExitStack() as stack:
        yield lambda *steps: stack.enter_context(scripted(*steps))


Send = Callable[..., Any]


def _by_requests(url: str, *, method: str = "POST", options: Any = None, **body: Any) -> Any:
    with RetryingClient(requests.Session(), **(options or {})) as client:
        return client.request(method, url, **body)


def _by_httpx(url: str, *, method: str = "POST", options: Any = None, **body: Any) -> Any:
    with RetryingClient(httpx.Client(verify=TRUST), **(options or {})) as client:
        return client.request(method, url, **body)


def _by_async_httpx(url: str, *, method: str = "POST", options: Any = None, **body: Any) -> Any:
    async def send() -> Any:
        async with AsyncRetryingClient(
            httpx.AsyncClient(verify=TRUST), **(options or {})
        ) as client:
            return await client.request(method, url, **body)

    return asyncio.run(send())


@pytest.fixture(
    params=[_by_requests, _by_httpx, _by_async_httpx], ids=["requests", "httpx", "async"]
)
def send(request: pytest.FixtureRequest) -> Send:
    """One operation through each library: ``send(url, json=…, options={"policy": …})``."""
    way: Send = request.param
    return way


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The address of a server whose certificate nobody knows."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True):
                        pass
                except OSError:
                    pass

        thread = threading.Thread(target=shake_hands, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/pay"
        listener.shutdown(socket.SHUT_RDWR)
