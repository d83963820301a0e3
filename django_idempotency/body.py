"""The body of a request, read for comparison and left as it was for the view.

JSON counts by content, forms by pairs, multipart as :mod:`.multipart` says, all else by bytes.
The stream is recorded while it is read, not read twice: a 3 MB upload that works without a key
works with one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http.request import UnreadablePostError

from .fingerprint import (
    MAX_FIELDS,
    canonical_json,
    canonical_pairs,
    file_digest,
    flatten,
    load_json,
    without,
)

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = [
    "CSRF",
    "UNREAD",
    "Body",
    "StreamRecorder",
    "json_body",
    "numbered",
    "pairs_body",
    "raw_body",
    "record_stream",
    "release",
    "whole",
]

_SMALL = 65_536  # bytes of a body that Django keeps for us; a recorder would cost 25 µs more
_IN_MEMORY = 2_621_440  # bytes of a recorded body before it goes to disk, as Django's uploads
_CHUNK = 65_536  # bytes
_LONGEST = 16 * 1024 * 1024  # bytes; a longer document or form is compared as it was sent
UNREAD = (
    "The body of this request was read as a stream, by a middleware or a decorator, before the "
    "idempotent view could see it: a retry with another body could not be told from this one. "
    "Read request.body there instead of request.read() or json.load(request)."
)
CSRF = "csrfmiddlewaretoken"  # masked anew in every page, so no part of what is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What the fingerprint covers, and what a record may name."""

    parts: list[bytes]
    fields: Iterable[tuple[str, str]] = ()
    document: Any = None  # what RECORD_REQUEST="body" may keep, after redaction


class StreamRecorder:
    """A request stream that keeps what passes through it, in memory or on disk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._copy: SpooledTemporaryFile[bytes] | None = None

    def _kept(self, data: bytes) -> bytes:
        if self._copy is None:
            self._copy = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - see close()
        self._copy.write(data)
        return data

    def read(self, *args: Any) -> bytes:
        return self._kept(self._stream.read(*args))

    def readline(self, *args: Any) -> bytes:
        return self._kept(self._stream.readline(*args))

    def finish(self) -> IO[bytes]:
        """Read the rest, and return the whole from its beginning."""
        while self.read(_CHUNK):
            pass
        copy = cast("SpooledTemporaryFile[bytes]", self._copy)
        copy.seek(0)
        return cast("IO[bytes]", copy)

    def close(self) -> None:
        """Give back the file; a body that was small enough stays readable."""
        if self._copy is not None:
            self._copy.close()
        if hasattr(self._stream, "close"):
            self._stream.close()


def record_stream(request: HttpRequest, *, multipart: bool = False) -> None:
    """Record the body from here on, whoever reads it first: a permission class, say."""
    stream = getattr(request, "_stream", None)
    if stream is None or isinstance(stream, StreamRecorder) or hasattr(request, "_body"):
        return
    if request.content_type == "multipart/form-data" and not multipart:
        return  # compared as it was parsed, files in chunks
    if getattr(request, "_read_started", False):
        return
    if _is_small(request):
        request.body  # noqa: B018 - whoever reads it from here on reads Django's copy
    else:
        cast("Any", request)._stream = StreamRecorder(stream)


def _is_small(request: HttpRequest) -> bool:
    length = str(request.META.get("CONTENT_LENGTH", ""))
    if not (length.isascii() and length.isdigit()):
        return False
    limit: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return int(length) <= _SMALL and (limit is None or int(length) <= limit)


def release(request: HttpRequest) -> None:
    """Close what was kept on disk; call it when the response is done with."""
    stream = getattr(request, "_stream", None)
    if isinstance(stream, (StreamRecorder, SpooledTemporaryFile)):
        stream.close()


def whole(request: HttpRequest) -> Iterator[bytes]:
    """The body in chunks; afterwards the request is as fresh as before."""
    if hasattr(request, "_body"):
        yield request.body
        return
    recorder = getattr(request, "_stream", None)
    if not isinstance(recorder, StreamRecorder):
        if getattr(request, "_read_started", False):
            raise ImproperlyConfigured(UNREAD)
        return  # made by hand, without a stream
    try:
        copy = recorder.finish()
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    size = 0
    while chunk := copy.read(_CHUNK):
        size += len(chunk)
        yield chunk
    copy.seek(0)
    if size <= _IN_MEMORY:
        # Readable for as long as the request is, without a file to close.
        copy = BytesIO(copy.read())
        recorder.close()
    if not cast("Any", request)._read_started:
        cast("Any", request)._stream = copy


def raw_body(
    request: HttpRequest, media_type: str, exclude: Collection[str], *, limited: bool = False
) -> Body:
    """JSON and URL-encoded bodies by content, any other by its bytes.

    ``limited``: Django will not give the view more than its limit, unless from the stream.
    """
    is_form = media_type == "application/x-www-form-urlencoded"
    if not is_form and not media_type.endswith(("/json", "+json")):
        return Body(parts=[file_digest(whole(request))])
    limit: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if limited else None
    longest = _LONGEST if limit is None else min(limit, _LONGEST)
    chunks, read, size = whole(request), list[bytes](), 0
    for chunk in chunks:
        read.append(chunk)
        size += len(chunk)
        if size > longest:
            return Body(parts=[file_digest(chain(read, chunks))])
    raw = b"".join(read)
    try:
        if not is_form:
            return json_body(load_json(raw), exclude)
        most: int | None = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        pairs = parse_qsl(
            raw.decode(),
            keep_blank_values=True,
            max_num_fields=most,
            errors="surrogateescape",  # no two bytes become one replacement character
        )
        return pairs_body(pairs, exclude)
    except (ValueError, RecursionError):
        # Not what it says it is: the view will tell the client.
        return Body(parts=[file_digest([raw])])


def json_body(document: Any, exclude: Collection[str]) -> Body:
    document = without(document, exclude)
    return Body(
        parts=[b"json", *canonical_json(document)],
        fields=_first_fields(document),
        document=document,
    )


def _first_fields(document: Any) -> list[tuple[str, str]]:
    """As many as a record describes; a hostile body has millions of them."""
    try:
        return list(islice(flatten(document), MAX_FIELDS))
    except RecursionError:
        return []  # nested too deep to be named; it is compared all the same


def pairs_body(pairs: Iterable[tuple[str, str]], exclude: Collection[str]) -> Body:
    kept = [(name, value) for name, value in pairs if name != CSRF and name not in exclude]
    return Body(parts=[b"form", *canonical_pairs(kept)], fields=numbered(kept), document=dict(kept))


def numbered(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Fields of a form, the second value of a name as ``name[1]``."""
    seen: dict[str, int] = {}
    numbered = []
    for name, value in pairs:
        count = seen.get(name, 0)
        seen[name] = count + 1
        numbered.append((f"{name}[{count}]" if count else name, value))
    return numbered
