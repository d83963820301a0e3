"""Responses, in and out of the store, and the form of a refusal."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.utils.http import http_date

from .conf import Settings
from .exceptions import IdempotencyError, ReplayForbidden, ResultNotStored
from .hooks import kind_of
from .incoming import Idempotency
from .policy import Policy
from .protocol import Attempt, KeyedRequest, StoredResponse

__all__ = ["NOT_RAISED", "REPLAYED", "HttpCodec", "mark", "problem_response"]

REPLAYED = "Idempotent-Replayed"
EXPIRES = "Idempotency-Expires"
_OF_BYTES = {"content-length", "content-md5", "digest", "content-digest", "repr-digest", "etag"}

NOT_RAISED = "Undone is not returned but raised: raise Undone(response)."
_HINTS = {"None": "Perhaps a branch of it lacks its return.", "Undone": NOT_RAISED}
_HINT = (
    "On a function for DRF, put @idempotent above @api_view; in django-ninja write "
    "@decorate_view(idempotent)."
)

Finish = Callable[[HttpResponseBase], HttpResponseBase]


class HttpCodec:
    """Between Django's responses and stored ones, for one request."""

    def __init__(
        self,
        request: Any,
        keyed: KeyedRequest,
        policy: Policy,
        settings: Settings,
        *,
        name: str,
        finish: Finish | None = None,
    ) -> None:
        self.request = request
        self.keyed = keyed
        self.policy = policy
        self.settings = settings
        self.name = name
        self.finish = finish

    def dump(self, response: HttpResponseBase) -> tuple[HttpResponseBase, StoredResponse]:
        """Render inside the transaction: what cannot be rendered must not be committed."""
        if not isinstance(cast("Any", response), HttpResponseBase):
            kind = kind_of(response)
            hint = _HINTS.get(kind, _HINT)
            msg = f"{self.name}: an idempotent view must return an HttpResponse, not {kind}. {hint}"
            raise TypeError(msg)
        if self.finish is not None:
            response = self.finish(response)
        if callable(getattr(response, "render", None)):
            response = cast("Any", response).render()
        if response.streaming:
            response, body = self._buffer(cast("StreamingHttpResponse", response))
        else:
            body = self._bounded(cast("HttpResponse", response).content)
        described = True
        if body is not None and self.policy.redact_response is not None:
            whole, body = body, self.policy.redact_response(body, response.get("Content-Type", ""))
            described = body == whole  # or what the headers say of its bytes is no longer so
        stored = StoredResponse(
            status=response.status_code,
            headers=tuple(pair for pair in response.items() if _is_kept(pair[0], self.settings)),
            body=body,
        )
        return response, stored if described else _less_digests(stored)

    def load(self, stored: StoredResponse, attempt: Attempt) -> HttpResponseBase:
        """The response again, if this client may still have it."""
        idempotency = Idempotency(self.keyed, attempt)
        idempotency.response = stored
        if self.policy.can_replay and not self.policy.can_replay(self.request, idempotency):
            raise ReplayForbidden
        response: HttpResponseBase | None = None
        if self.policy.rebuild is not None:
            response = self.policy.rebuild(self.request, idempotency)
            if response is not None and self.finish is not None:
                response = self.finish(response)
            if callable(getattr(response, "render", None)):
                response = cast("Any", response).render()
        response = response or self._rebuilt(stored)
        response[REPLAYED] = "true"
        # A replay is for this client alone, whatever the caches between think of a POST.
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        expose_expiry(response, attempt, self.settings)
        return response

    def _rebuilt(self, stored: StoredResponse) -> HttpResponse:
        headers = dict(stored.headers)
        if stored.body is None:
            refusal = ResultNotStored()
            if "Location" in headers:
                refusal.headers["Location"] = headers["Location"]
            raise refusal
        response = HttpResponse(stored.body, status=stored.status)
        if "Content-Type" not in headers:
            del response["Content-Type"]
        for name, value in stored.headers:
            response[name] = value  # refuses line breaks, should a row have been tampered with
        return response

    def _bounded(self, body: bytes) -> bytes | None:
        return body if len(body) <= self.settings.MAX_RESPONSE_BYTES else None

    def _buffer(self, stream: StreamingHttpResponse) -> tuple[HttpResponseBase, bytes | None]:
        """Read a stream up to the limit; a longer one reaches this client whole, unkept."""
        endless = stream.get("Content-Type", "").startswith("text/event-stream")
        if endless or not self.settings.BUFFER_STREAMS:
            return stream, None
        limit = self.settings.MAX_RESPONSE_BYTES
        if stream.is_async:
            return self._buffer_async(stream, limit)
        chunks = iter(stream)
        head = _take(chunks, limit)
        if sum(map(len, head)) > limit:
            stream.streaming_content = chain(head, chunks)
            return stream, None
        return _unstreamed(stream, b"".join(head))

    def _buffer_async(
        self, stream: StreamingHttpResponse, limit: int
    ) -> tuple[HttpResponseBase, bytes | None]:
        chunks = aiter(cast("Any", stream.streaming_content))

        async def take() -> list[bytes]:
            head, size = [], 0
            async for chunk in chunks:
                head.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
            return head

        async def rejoined() -> Any:
            for chunk in head:
                yield chunk
            async for chunk in chunks:
                yield chunk

        head = async_to_sync(take)()
        if sum(map(len, head)) > limit:
            stream.streaming_content = rejoined()
            return stream, None
        return _unstreamed(stream, b"".join(head))


def _less_digests(stored: StoredResponse) -> StoredResponse:
    """Without the headers that describe another body, byte for byte."""
    return replace(
        stored,
        headers=tuple(pair for pair in stored.headers if pair[0].lower() not in _OF_BYTES),
    )


@functools.lru_cache(maxsize=256)
def _is_kept(name: str, settings: Settings) -> bool:
    """Whether the header is part of the response, and not of the way it was sent."""
    lowered = name.lower()
    return not any(fnmatchcase(lowered, drop.lower()) for drop in settings.DROP_HEADERS)


def _take(chunks: Iterator[bytes], limit: int) -> list[bytes]:
    head, size = [], 0
    for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size > limit:
            break
    return head


def _unstreamed(stream: StreamingHttpResponse, body: bytes) -> tuple[HttpResponse, bytes]:
    response = HttpResponse(body, status=stream.status_code, reason=stream.reason_phrase)
    del response["Content-Type"]
    for name, value in stream.items():
        response[name] = value
    response.cookies = stream.cookies
    # Not stream.close(): it announces the end of the request, which closes the connection.
    response._resource_closers.extend(stream._resource_closers)  # type: ignore[attr-defined]
    return response, body


def expose_expiry(response: HttpResponseBase, attempt: Attempt, settings: Settings) -> None:
    if settings.EXPOSE_EXPIRY and attempt.expires_at is not None:
        response[EXPIRES] = http_date(attempt.expires_at.timestamp())


def mark(response: HttpResponseBase, sent: str, settings: Settings) -> HttpResponseBase:
    """Echo the key, so that a client can tell it is honoured here."""
    value = sent.strip()
    if value.isascii() and value.isprintable():
        response[settings.HEADER] = value
    return response


def problem_response(refusal: IdempotencyError, settings: Settings) -> HttpResponse:
    """A refusal as RFC 9457 ``application/problem+json``, or as DRF spells errors."""
    url = settings.DOCS_URL + refusal.slug
    content: dict[str, Any] = {"detail": refusal.detail, "code": refusal.code}
    if settings.ERROR_FORMAT == "problem":
        content = {"type": url, "title": refusal.title, "status": int(refusal.status)} | content
    kind = "application/problem+json" if settings.ERROR_FORMAT == "problem" else "application/json"
    response = HttpResponse(json.dumps(content), status=refusal.status, content_type=kind)
    response["Cache-Control"] = "no-store"
    response["Link"] = f'<{url}>; rel="describedby"'
    if refusal.retry_after is not None:
        response["Retry-After"] = str(refusal.retry_after)
    for name, value in refusal.headers.items():
        response[name] = value
    return response
