"""What may be shown of stored bodies and headers, and how.

Everything here comes from strangers: a body may not be what its type says, a column may hold
broken JSON, a value may try to be markup. Nothing raises, and templates escape.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.utils.http import parse_header_parameters

from django_idempotency.conf import get_settings, secrets
from django_idempotency.content import salt_of
from django_idempotency.fingerprint import field_digests
from django_idempotency.redaction import REDACTED, is_sensitive

from .documents import Document, Members, Token, cut, is_whole, parse, redact, tokens, whole

if TYPE_CHECKING:
    from django_idempotency.models import IdempotencyKey

__all__ = [
    "Content",
    "Header",
    "Record",
    "content_of",
    "content_of_document",
    "download_of",
    "headers_of",
    "media_type_of",
    "record_of",
]

SHOWN = 20_000  # characters of a body
_PRIVATE = ("authorization", "proxy-authorization", "cookie", "set-cookie", "*api-key*")
# name=value and "name": value in a text that is no JSON document, or no longer one.
_PAIR = re.compile(
    r"""(?<![\w.\[\]-])(["']?)([\w.\[\]-]{1,120})\1(\s*[:=]\s*)"""
    r"""("(?:\\.|[^"\\])*"?|[^\s,;&}\]]+)"""
)
_MEDIA_TYPES = (  # of bodies that a record may hold
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/vnd.api+json",
    "application/hal+json",
    "application/ld+json",
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # what text does not hold


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    value: str
    hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body as people may see it; sizes in bytes."""

    kind: str  # "json", "text", "binary", "empty" or "missing"
    size: int = 0
    tokens: tuple[Token, ...] = ()
    cut: bool = False  # there is more than is shown
    digest: str = ""  # SHA-256 of what is not text
    broken: bool = False  # it says it is JSON, and is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept of a request."""

    digests: Mapping[str, str] = field(default_factory=dict)  # of its fields, by name
    body: Document = None
    has_body: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.digests)


def headers_of(stored: str | None) -> tuple[Header, ...]:
    """The headers in a row; what is broken there is left out."""
    pairs = _loaded(stored or "[]")
    if not isinstance(pairs, list):
        return ()
    strings = [
        (whole(str(pair[0])), whole(str(pair[1])))
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2
    ]
    patterns = (*_PRIVATE, *get_settings().REDACT)
    return tuple(
        Header(name, REDACTED, hidden=True) if is_sensitive(name, patterns) else Header(name, value)
        for name, value in strings
    )


def content_of(body: bytes | memoryview | None, headers: Sequence[Header]) -> Content:
    """A body for the page: JSON in lines, text as it is, anything else by size and digest."""
    if body is None:
        return Content(kind="missing")
    raw = bytes(body)
    if not raw:
        return Content(kind="empty")
    text = _text(raw, headers)
    if text is None:
        return Content(kind="binary", size=len(raw), digest=hashlib.sha256(raw).hexdigest())
    patterns = get_settings().REDACT
    claimed = _is_json(_header(headers, "content-type"))
    try:
        pieces, more = cut(tokens(redact(parse(text), patterns)), SHOWN)
        return Content(kind="json", size=len(raw), tokens=pieces, cut=more)
    except (ValueError, RecursionError):
        shown = redacted_text(text[:SHOWN], patterns)
        more = len(text) > SHOWN
        return Content(kind="text", size=len(raw), tokens=(Token(shown),), cut=more, broken=claimed)


def download_of(body: bytes | memoryview, headers: Sequence[Header]) -> bytes:
    """A body for a file: byte for byte, unless it holds what must not be shown."""
    raw = bytes(body)
    text = _text(raw, headers)
    if text is None:
        return raw
    patterns = get_settings().REDACT
    try:
        document = parse(text)
        allowed = redact(document, patterns)
        untouched = allowed == document
    except (ValueError, RecursionError):
        clean = redacted_text(text, patterns)
        return raw if clean == text else clean.encode()
    if untouched:
        return raw
    try:
        return "".join(piece.text for piece in tokens(allowed)).encode()
    except RecursionError:
        return redacted_text(text, patterns).encode()


def content_of_document(document: Document) -> Content:
    """A body that was kept as a document, already redacted."""
    try:
        pieces, more = cut(tokens(document), SHOWN)
    except RecursionError:
        return Content(kind="missing")
    return Content(kind="json", tokens=pieces, cut=more)


def record_of(stored: str, *, with_body: bool = True) -> Record:
    """What a row keeps of a request, with today's patterns applied once more."""
    try:
        document = redact(parse(stored), get_settings().REDACT) if stored else None
    except ValueError:
        document = None
    if not isinstance(document, Members):
        return Record()
    parts = dict(document)
    fields = parts.get("fields")
    digests = (
        {whole(name): digest for name, digest in fields if isinstance(digest, str)}
        if isinstance(fields, Members)
        else {}
    )
    if not with_body:
        return Record(digests=digests)
    return Record(digests=digests, body=parts.get("body"), has_body="body" in parts)


def media_type_of(key: IdempotencyKey, record: Record) -> str:
    """What type a request said its body was; "" if it is none of the usual ones.

    A record holds only a digest of it, under a secret that may have been changed since.
    """
    kept, salt = record.digests.get("@content-type"), salt_of(key.scope, key.key)
    for secret in secrets():
        for media_type in _MEDIA_TYPES:
            digests = field_digests([("@content-type", media_type)], secret=secret, salt=salt)
            if digests["@content-type"] == kept:
                return media_type
    return ""


def redacted_text(text: str, patterns: Collection[str]) -> str:
    """Text with the values after sensitive names replaced, as far as they can be told."""

    def replace(found: re.Match[str]) -> str:
        if not is_sensitive(found[2], patterns):
            return found[0]
        return f"{found[1]}{found[2]}{found[1]}{found[3]}{REDACTED}"

    return _PAIR.sub(replace, text)


def _loaded(text: str) -> object:
    try:
        loaded: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return loaded


def _header(headers: Sequence[Header], name: str) -> str:
    return next((header.value for header in headers if header.name.lower() == name), "")


def _is_json(content_type: str) -> bool:
    return parse_header_parameters(content_type)[0].lower().endswith(("/json", "+json"))


def _text(raw: bytes, headers: Sequence[Header]) -> str | None:
    """The body as text; None if it is none."""
    if _header(headers, "content-encoding") not in {"", "identity"}:
        return None
    charset = parse_header_parameters(_header(headers, "content-type"))[1].get("charset", "utf-8")
    try:
        text = raw.decode(charset)
    except (LookupError, ValueError):
        return None
    return text if is_whole(text) and not _CONTROL.search(text) else None
