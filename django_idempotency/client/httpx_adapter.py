"""httpx, as the clients need it. Imported only where one of its clients is given."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any, cast

import anyio  # httpx stands on it
import httpx

from .adapter import caused_by, frozen_body
from .operation import DeadlineReached, Timing
from .verdict import BODY_DECIDES, Answer, Cause

__all__ = ["AsyncHttpxAdapter", "HttpxAdapter"]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NEVER_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_SENDING = ("auth",)  # an option of sending, not of the request


class _Common:
    """What the sync and the async client have in common: all but the waiting."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def _build(self, method: str, url: str, headers: Mapping[str, str], options: Any) -> Any:
        sending = {name: options.pop(name) for name in _SENDING if name in options}
        with frozen_body(TypeError, ValueError):
            request = self.client.build_request(method, url, **options)
            if isinstance(request.stream, httpx.SyncByteStream):
                request.read()
        for name, value in headers.items():
            request.headers[name] = value
        return request, sending

    def answer(self, response: httpx.Response) -> Answer:
        return Answer(response.status_code, response.headers, response.content)

    def cause(
        self, error: Exception, *, handled: BaseException | None = None
    ) -> Cause | Answer | None:
        if isinstance(error, httpx.HTTPStatusError):
            return _raised(error.response)
        unverified = caused_by(error, ssl.SSLCertVerificationError, handled=handled)
        if isinstance(error, _NEVER_SENT) or unverified:
            return Cause.REFUSED
        if not isinstance(error, (httpx.TransportError, httpx.DecodingError)):
            return None
        return Cause.NOT_SENT if isinstance(error, _NOT_SENT) else Cause.LOST


class HttpxAdapter(_Common):
    def freeze(self, method: str, url: str, headers: Mapping[str, str], options: Any) -> Any:
        request, sending = self._build(method, url, headers, options)
        if not isinstance(request.stream, httpx.SyncByteStream):
            msg = "An async body needs the AsyncRetryingClient."
            raise TypeError(msg)
        _measure(request)
        return request, sending

    def send(self, request: Any, timing: Timing) -> httpx.Response:
        request, sending = request
        # httpx knows no time-out for the whole; its parts are clipped as each begins.
        clip = _Clip(timing)
        request.extensions = {**request.extensions, "timeout": clip.limits, "trace": clip}
        response = cast(
            "httpx.Response",
            self.client.send(request, stream=True, follow_redirects=False, **sending),
        )
        try:
            response.stream = _Bounded(cast("httpx.SyncByteStream", response.stream), timing)
            response.read()
        finally:
            response.close()
        return response

    def close(self) -> None:
        self.client.close()


class AsyncHttpxAdapter(_Common):
    async def freeze(self, method: str, url: str, headers: Mapping[str, str], options: Any) -> Any:
        request, sending = self._build(method, url, headers, options)
        if not isinstance(request.stream, httpx.SyncByteStream):
            with frozen_body(TypeError):
                await request.aread()
        _measure(request)
        return request, sending

    async def send(self, request: Any, timing: Timing) -> httpx.Response:
        request, sending = request
        request.extensions = {**request.extensions, "timeout": _limits(timing)}
        try:
            with anyio.fail_after(timing.timeouts().total):
                return cast(
                    "httpx.Response",
                    await self.client.send(request, follow_redirects=False, **sending),
                )
        except TimeoutError as error:
            msg = "The answer had not arrived whole when the time was over"
            raise DeadlineReached(msg) from error

    async def close(self) -> None:
        await self.client.aclose()


def _raised(response: httpx.Response) -> Answer | None:
    """The answer that a hook of the client has made an error."""
    try:
        return Answer(response.status_code, response.headers, response.content)
    except httpx.ResponseNotRead:
        if response.status_code in BODY_DECIDES:
            return None
        return Answer(response.status_code, response.headers)


def _limits(timing: Timing) -> dict[str, float]:
    limits = timing.timeouts()
    return {
        "connect": limits.connect,
        "pool": limits.connect,
        "read": limits.read,
        "write": limits.read,
    }


class _Clip:
    """httpx's ``trace`` hook: before each phase of a request, clip its time-out to what is left."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.limits = _limits(timing)

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".started"):
            self.limits.update(_limits(self._timing))


class _Bounded(httpx.SyncByteStream):
    """The body, with a look at the clock after each piece: a server may trickle."""

    def __init__(self, stream: httpx.SyncByteStream, timing: Timing) -> None:
        self._stream = stream
        self._timing = timing

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._timing.check()
            yield piece

    def close(self) -> None:
        self._stream.close()


def _measure(request: httpx.Request) -> None:
    """The body was read: it has a length now, where a generator had none."""
    if request.headers.pop("Transfer-Encoding", None) is not None:
        request.headers["Content-Length"] = str(len(request.content))
