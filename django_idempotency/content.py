"""What was asked: what two equal requests share, and what may be kept of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from django.conf import settings as site
from django.utils.http import parse_header_parameters
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Empty, Request

from .body import Body, raw_body, record_stream
from .conf import Settings, get_settings, secrets
from .fingerprint import canonical_pairs, content_digest, field_digests
from .multipart import form_body, is_spent, refuse_unread, stream_body
from .policy import Policy
from .redaction import redacted

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["content_of", "default_fingerprint", "record_of", "salt_of"]

_NONE = content_digest(())
_UTF8 = {"utf-8", "utf8"}  # as Python and browsers spell it
_LONGEST_RECORD = 64 * 1024  # bytes of a kept body


def content_of(request: Any, policy: Policy, settings: Settings) -> tuple[Body | None, list[bytes]]:
    """The body, if it was read, and the parts that two equal requests share."""
    if policy.fingerprint is not None:
        chosen = policy.fingerprint(request)
        return None, [chosen.encode() if isinstance(chosen, str) else chosen]
    return _content(request, policy.fingerprint_exclude or (), settings)


def default_fingerprint(request: Any, *, exclude: Collection[str] = ()) -> bytes:
    """What is compared unless a view says otherwise: 32 bytes, not yet signed.

    Method, path, query, media type, API version and body, less the members in ``exclude``.
    """
    return content_digest(_content(request, exclude, get_settings())[1])


def _content(
    request: Any, exclude: Collection[str], settings: Settings
) -> tuple[Body, list[bytes]]:
    django_request: HttpRequest = getattr(request, "_request", request)
    media_type, parameters = parse_header_parameters(django_request.META.get("CONTENT_TYPE", ""))
    if media_type == "multipart/form-data":
        parameters.pop("boundary", None)  # new with each attempt
    if parameters.get("charset", "").lower() in _UTF8:
        del parameters["charset"]  # the default, spelled out
    charset = parameters.get("charset") or django_request.encoding or site.DEFAULT_CHARSET
    # By another charset the view reads another text, so that only bytes can be compared.
    is_utf8 = charset.lower() in _UTF8
    body = _body(request, media_type, exclude, is_utf8=is_utf8)
    asked = django_request.META.get("QUERY_STRING", "")
    headers = [django_request.headers.get(name, "") for name in settings.FINGERPRINT_HEADERS]
    texts = (cast("str", request.method), django_request.path, media_type, *headers)
    return body, [
        *(text.encode("utf-8", "surrogatepass") for text in texts),
        str(getattr(request, "version", None) or "").encode(),  # DRF's API version
        _query_digest(asked, is_utf8=is_utf8),
        _pairs_digest(parameters.items()),
        content_digest(body.parts),
    ]


def _query_digest(asked: str, *, is_utf8: bool) -> bytes:
    if not asked:
        return _NONE
    if not is_utf8 or not asked.isascii():  # unescaped bytes, which each server decodes its way
        return content_digest((asked.encode("utf-8", "surrogatepass"),))
    return _pairs_digest(parse_qsl(asked, keep_blank_values=True, errors="surrogateescape"))


def _pairs_digest(pairs: Collection[tuple[str, str]]) -> bytes:
    return content_digest(canonical_pairs(pairs)) if pairs else _NONE


def _body(request: Any, media_type: str, exclude: Any, *, is_utf8: bool) -> Body:
    django_request = getattr(request, "_request", request)
    if media_type == "multipart/form-data":
        try:
            return _multipart(request, django_request, exclude)
        except UnsupportedMediaType:
            # This view reads the raw body; nobody has read it yet.
            record_stream(django_request, multipart=True)
    kind, limited = media_type if is_utf8 else "", request is django_request
    return raw_body(django_request, kind, exclude, limited=limited)


def _multipart(request: Any, django_request: HttpRequest, exclude: Any) -> Body:
    if isinstance(request, Request):
        loaded = cast("Any", request)
        if loaded._data is Empty:
            refuse_unread(django_request)
        # DRF may be the one who reads the stream; what cannot be parsed fails here as it would
        # in the view, and the key stays unused.
        request.data  # noqa: B018
        data, files = loaded._data, request.FILES
    elif request.method == "POST" or is_spent(request):
        refuse_unread(request)
        data, files = request.POST, request.FILES
    else:
        return stream_body(request, exclude)
    if data or files or is_spent(django_request):
        return form_body(data, files, exclude)
    return stream_body(django_request, exclude)  # of no stated length: nobody has parsed it


def _about(request: HttpRequest) -> list[tuple[str, str]]:
    """What of a request may differ besides its body; ``@`` cannot begin a field by accident."""
    return [
        ("@method", request.method or ""),
        ("@path", request.path),
        ("@query", request.META.get("QUERY_STRING", "")),
        ("@content-type", request.content_type or ""),
    ]


def salt_of(scope: str, key: str) -> bytes:
    """Equal field values under two keys must not have equal digests."""
    return hashlib.sha256(f"{len(scope)}:{scope}{key}".encode()).digest()[:16]


def record_of(
    request: HttpRequest,
    body: Body | None,
    policy: Policy,
    settings: Settings,
    *,
    salt: bytes,
) -> str:
    """JSON of what is kept of a request, so that a conflict can be explained."""
    if settings.RECORD_REQUEST == "nothing":
        return ""
    described = [*_about(request), *(body.fields if body else ())]
    record: dict[str, Any] = {"fields": field_digests(described, secret=secrets()[0], salt=salt)}
    if settings.RECORD_REQUEST == "body" and body is not None and body.document is not None:
        redact = policy.redact_request or (lambda data: redacted(data, settings.REDACT))
        try:
            whole = _dumps({**record, "body": redact(_plain(body.document))})
        except RecursionError:
            whole = ""  # nested too deep to be kept; the view may well have read it
        if 0 < len(whole) <= _LONGEST_RECORD:
            return whole
    return _dumps(record)


_dumps = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _plain(document: Any) -> Any:
    """A document whose numbers are numbers again."""
    return json.loads(json.dumps(document, default=lambda literal: _number(literal.text)))


def _number(text: str) -> float | str:
    return float(text) if text.lstrip("-").replace(".", "").isdigit() else text
