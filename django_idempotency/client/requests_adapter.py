"""requests, as the clients need it. Imported only where a ``requests.Session`` is given."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import requests
from requests import exceptions as errors
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError
from urllib3.util import Timeout

from .adapter import caused_by, frozen_body
from .operation import Timing
from .verdict import BODY_DECIDES, Answer, Cause

__all__ = ["RequestsAdapter"]

_LOST = (
    errors.ConnectionError,
    errors.Timeout,
    errors.ChunkedEncodingError,
    errors.ContentDecodingError,
    errors.RetryError,
)
_NEVER_SENT = (errors.InvalidSchema, errors.InvalidURL)
_SENDING = ("proxies", "verify", "cert")  # options of the connection, not of the request


class RequestsAdapter:
    def __init__(self, session: requests.Session) -> None:
        self.session = session

    def freeze(self, method: str, url: str, headers: Mapping[str, str], options: Any) -> Any:
        sending = {name: options.pop(name) for name in _SENDING if name in options}
        request = requests.Request(method, url, **options)
        request.headers = {**(request.headers or {}), **headers}
        # Not ValueError: that is what requests says of bad URLs and headers.
        with frozen_body(TypeError, errors.InvalidJSONError):
            prepared = self.session.prepare_request(request)
            _freeze(prepared)
        settings = self.session.merge_environment_settings(
            prepared.url or url,
            sending.get("proxies") or {},
            True,
            sending.get("verify"),
            sending.get("cert"),
        )
        return prepared, settings

    def send(self, request: Any, timing: Timing) -> requests.Response:
        prepared, settings = request
        limits = timing.timeouts()
        timeout = Timeout(connect=limits.connect, read=limits.read, total=limits.total)
        response = self.session.send(
            prepared,
            timeout=cast("Any", timeout),  # documented: a urllib3 Timeout object
            allow_redirects=False,
            **settings,
        )
        with response:
            response.raw.enforce_content_length = True  # what urllib3 does by itself since 2.0
            if hasattr(response.raw, "read1"):  # urllib3 has it since 2.2
                response.raw = _Bounded(response.raw, timing)
            _ = response.content  # reads it all, and keeps it
        return response

    def answer(self, response: requests.Response) -> Answer:
        return Answer(response.status_code, response.headers, response.content)

    def cause(
        self, error: Exception, *, handled: BaseException | None = None
    ) -> Cause | Answer | None:
        if isinstance(error, errors.HTTPError) and error.response is not None:
            return _raised(error.response)
        if isinstance(error, _NEVER_SENT):
            return Cause.REFUSED
        if not isinstance(error, _LOST):
            return None
        if self._retries_itself(error):
            return Cause.LOST  # this is its last error; an earlier attempt may have arrived
        behind = partial(caused_by, error, handled=handled)
        if _unverified(behind):
            return Cause.REFUSED
        not_sent = behind(NewConnectionError, ConnectTimeoutError)
        return Cause.NOT_SENT if not_sent else Cause.LOST

    def _retries_itself(self, error: errors.RequestException) -> bool:
        """Whether the session was given an ``HTTPAdapter(max_retries=…)``."""
        url = getattr(error.request, "url", None)
        if url is None:
            return False
        total = getattr(getattr(self.session.get_adapter(url), "max_retries", None), "total", 0)
        return total is None or total > 0

    def close(self) -> None:
        self.session.close()


class _Bounded:
    """The raw response, read in pieces as they arrive, with a look at the clock after each.

    urllib3 would wait until 10 kB are there, and a server that trickles could take for ever.
    """

    def __init__(self, raw: Any, timing: Timing) -> None:
        self._raw = raw
        self._timing = timing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        while piece := self._raw.read1(amount, decode_content=decode_content):
            self._timing.check()
            yield piece


def _unverified(behind: Callable[..., bool]) -> bool:
    """Whether the server could not show who it is, by its certificate or its fingerprint."""
    if behind(ssl.SSLCertVerificationError):
        return True
    return behind(SSLError) and not behind(ssl.SSLError)


def _raised(response: requests.Response) -> Answer | None:
    """The answer that a hook of the session has made an error."""
    response.close()
    inside: Any = response
    if inside._content is False:  # noqa: SLF001 - not read yet, and nothing public says so
        if response.status_code in BODY_DECIDES:
            return None
        return Answer(response.status_code, response.headers)
    return Answer(response.status_code, response.headers, response.content)


def _freeze(prepared: requests.PreparedRequest) -> None:
    """Files and generators can be read once; bytes can be sent again."""
    body: Any = prepared.body
    if body is None or isinstance(body, bytes):
        return
    if isinstance(body, str):
        body = body.encode()
    elif hasattr(body, "read"):
        body = body.read()
    else:
        body = b"".join(body)
    prepared.body = body.encode() if isinstance(body, str) else body
    prepared.headers.pop("Transfer-Encoding", None)
    prepared.headers["Content-Length"] = str(len(prepared.body))
