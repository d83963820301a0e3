"""The clients: a requests or httpx client whose writes are retried under one key."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload
from urllib.parse import urlsplit

from .adapter import adapter_for
from .budget import RetryBudget
from .operation import Operation, checked_key
from .policy import RetryPolicy
from .worker import within

if TYPE_CHECKING:
    import httpx
    import requests

__all__ = ["AsyncRetryingClient", "RetryingClient"]

R = TypeVar("R")

METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: a token
_OURS = {
    "timeout": "RetryPolicy(timeout=…, connect_timeout=…, deadline=…)",
    "allow_redirects": "nothing: a redirect is the answer, and you follow it",
    "follow_redirects": "nothing: a redirect is the answer, and you follow it",
    "stream": "nothing: an answer counts when it has arrived whole",
}


class _Client:
    """What both clients have in common: all but the waiting."""

    _is_async: bool

    def __init__(
        self,
        http: Any = None,  # needed: without it the message says which libraries there are
        *,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        header: str = "Idempotency-Key",
    ) -> None:
        """Wrap a client of an HTTP library.

        Args:
            http: a ``requests.Session`` or ``httpx.Client``, for the async client an
                ``httpx.AsyncClient``. It is closed with this client.
            policy: when to try again; ``RetryPolicy()`` by default.
            budget: what retries may add to the traffic; ``RetryBudget()`` by default. Give the
                same one to all clients of a server.
            header: what the server calls the header of the key.

        Raises:
            TypeError: an argument is something else.
            ValueError: ``header`` cannot be the name of a header.
        """
        self.policy = RetryPolicy() if policy is None else policy
        self.budget = RetryBudget() if budget is None else budget
        self.header = header
        _require("policy", self.policy, RetryPolicy)
        _require("budget", self.budget, RetryBudget)
        named: Any = header
        if not isinstance(named, str) or not _HEADER.fullmatch(named):
            msg = f"header must be the name of an HTTP header, not {header!r}."
            raise ValueError(msg)
        self._adapter = adapter_for(http, is_async=self._is_async)

    def _operation(
        self, method: str, url: str, key: str | None, options: dict[str, Any]
    ) -> tuple[Operation, dict[str, str]]:
        method = method.upper()
        if method not in METHODS:
            msg = f"The client sends {', '.join(sorted(METHODS))}; a {method} needs no key."
            raise ValueError(msg)
        for name, instead in _OURS.items():
            if name in options:
                msg = f"{name}= is the client's own; use {instead}."
                raise TypeError(msg)
        given: Mapping[str, str] = options.get("headers") or {}
        if self.header.lower() in {_text(name).lower() for name in dict(given)}:
            msg = f"Give the key as idempotency_key=…, not as the header {self.header}."
            raise ValueError(msg)
        parts = urlsplit(str(url))
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
        operation = Operation(
            key=checked_key(key),
            policy=self.policy,
            budget=self.budget,
            cause=partial(self._adapter.cause, handled=sys.exception()),
            name=f"{method} {place}{parts.path}",
        )
        return operation, {self.header: operation.key}


def _require(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        msg = f"{name} must be a {kind.__name__}, not {value!r}."
        raise TypeError(msg)


def _text(name: str | bytes) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else name


class RetryingClient(_Client, Generic[R]):
    """Sends writes under one key each, and tries again as its policy says.

    >>> with RetryingClient(httpx.Client(base_url="https://api.example.com")) as client:
    ...     answer = client.post("/payments/", json={"amount": 1250})

    Each method returns the library's own response, or raises:

    - ``OutcomeUnknown``: attempts, time or budget are used up. The operation may have taken
      place; the exception has its key.
    - what the library raises for errors that no retry can cure, such as a certificate that
      cannot be verified. Then nothing was sent. Or what a hook of yours makes of a refusal.
    - ``TypeError``, ``ValueError``: the call itself is wrong. Nothing was sent.
    """

    _is_async = False

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: RetryingClient[requests.Response],
            http: requests.Session,
            *,
            policy: RetryPolicy | None = ...,
            budget: RetryBudget | None = ...,
            header: str = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: RetryingClient[httpx.Response],
            http: httpx.Client,
            *,
            policy: RetryPolicy | None = ...,
            budget: RetryBudget | None = ...,
            header: str = ...,
        ) -> None: ...
        def __init__(self, http: Any, **options: Any) -> None: ...

    def request(
        self, method: str, url: str, *, idempotency_key: str | None = None, **options: Any
    ) -> R:
        """One operation. ``options`` are those of the library: ``json``, ``files``, ``headers``…

        ``idempotency_key`` is a key that you have stored; without one a new UUID is made.
        """
        operation, headers = self._operation(method, url, idempotency_key, options)
        request = self._adapter.freeze(method, url, headers, options)
        with operation.outcome():
            for attempt in operation.retries():
                with attempt:
                    timing = operation.begin()
                    send = partial(self._adapter.send, request, timing)
                    response = within(timing.timeouts().total, send)
                    answer = self._adapter.answer(response)
                    return cast("R", operation.settle(response, answer))
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def post(self, url: str, **options: Any) -> R:
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> R:
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> R:
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> R:
        return self.request("DELETE", url, **options)

    def close(self) -> None:
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncRetryingClient(_Client):
    """The same for ``httpx.AsyncClient``: ``await client.post(…)``."""

    _is_async = True

    async def request(
        self, method: str, url: str, *, idempotency_key: str | None = None, **options: Any
    ) -> httpx.Response:
        """As ``RetryingClient.request``."""
        operation, headers = self._operation(method, url, idempotency_key, options)
        request = await self._adapter.freeze(method, url, headers, options)
        with operation.outcome():
            async for attempt in operation.retries():
                with attempt:
                    response = await self._adapter.send(request, operation.begin())
                    answer = self._adapter.answer(response)
                    return cast("httpx.Response", operation.settle(response, answer))
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def post(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("DELETE", url, **options)

    async def close(self) -> None:
        await self._adapter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
