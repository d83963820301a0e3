from __future__ import annotations

import asyncio
import ssl
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
