"""Multipart bodies: compared by their parts, files by digests read in chunks.

The boundary is new with each attempt, so the bytes say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import MemoryFileUploadHandler, TemporaryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from .body import CSRF, UNREAD, Body, json_body, numbered, pairs_body, record_stream, whole
from .fingerprint import canonical_pairs, file_digest, load_json, split_digest

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["form_body", "is_spent", "refuse_unread", "stream_body"]


def is_spent(request: HttpRequest) -> bool:
    """Whether somebody has read the stream, and not as ``request.body``."""
    return getattr(request, "_read_started", False) and not hasattr(request, "_body")


def refuse_unread(request: HttpRequest) -> None:
    """Fail where a middleware has read the stream: POST is empty then, whatever was sent."""
    # Django makes a tuple of the handlers when it parses; an empty POST alone says nothing.
    parsed = isinstance(getattr(request, "_upload_handlers", None), tuple)
    known = parsed or getattr(request, "_post", None) or getattr(request, "_files", None)
    if is_spent(request) and not known:
        raise ImproperlyConfigured(UNREAD)


def stream_body(request: HttpRequest, exclude: Collection[str]) -> Body:
    """A body that Django does not parse, as with PATCH; the view reads the recorded copy.

    All between the boundaries counts, since nobody knows what the view makes of it. Only to
    leave something out it is parsed as Django would, and for the names that a record gives.
    """
    record_stream(request, multipart=True)
    boundary = (request.content_params or {}).get("boundary", "")
    mark = b"--" + boundary.encode("utf-8", "surrogatepass")
    sent = [b"stream", split_digest(whole(request), mark)]
    held = hasattr(request, "_body")
    copy: Any = BytesIO(request.body) if held else getattr(request, "_stream", None)
    if copy is None:
        return Body(parts=sent)  # made by hand, without a stream
    # The length may not have been sent, and the handlers are the view's to choose.
    meta = {"CONTENT_TYPE": request.META["CONTENT_TYPE"], "CONTENT_LENGTH": copy.seek(0, SEEK_END)}
    handlers = [MemoryFileUploadHandler(request), TemporaryFileUploadHandler(request)]
    copy.seek(0)
    try:
        post, files = MultiPartParser(meta, copy, handlers).parse()
    except (MultiPartParserError, SuspiciousOperation):
        return Body(parts=sent)
    finally:
        copy.seek(0)
    try:
        body = form_body(post, files, exclude)
    finally:
        for _, uploads in files.lists():
            for upload in uploads:
                upload.close()
    # A replaced character stands for bytes that the view may read.
    texts = (text for name, values in post.lists() for text in (name, *values))
    by_part = exclude and (post or files) and not any("\ufffd" in text for text in texts)
    return body if by_part else replace(body, parts=sent)


def form_body(data: Any, files: Any, exclude: Collection[str]) -> Body:
    """A multipart body by its parsed parts; files are read in chunks and rewound.

    ``data`` is a QueryDict, or what a parser of nested forms has made of one.
    """
    described = []
    for name, uploads in _lists(files):
        if name not in exclude:
            described += [(name, _about(upload)) for upload in uploads]
    if hasattr(data, "lists"):
        body = pairs_body([(name, v) for name, values in data.lists() for v in values], exclude)
    else:
        body = _made_body(data, exclude)
    document = body.document
    if isinstance(document, dict):
        document = {**document, **{name: "[file]" for name, _ in described}}
    return Body(
        parts=[*body.parts, b"files", *canonical_pairs(described)],
        fields=[*body.fields, *numbered(described)],
        document=document,
    )


def _lists(files: Any) -> Iterable[tuple[str, Sequence[UploadedFile[Any]]]]:
    return files.lists() if hasattr(files, "lists") else ((n, [file]) for n, file in files.items())


def _made_body(data: Any, exclude: Collection[str]) -> Body:
    raw = json.dumps(_plain(data)).encode()
    try:
        return json_body(load_json(raw), {*exclude, CSRF})
    except ValueError:  # nested too deep, say
        return Body(parts=[raw])


def _plain(value: Any) -> Any:
    """What a parser has made, as JSON: files by what is in them, the rest as Python shows it."""
    if isinstance(value, dict):
        if all(isinstance(name, str) for name in value):
            return {name: _plain(member) for name, member in value.items()}
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, UploadedFile):
        return _about(value)
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


def _about(upload: UploadedFile[Any]) -> str:
    digest = file_digest(upload.chunks()).hex()
    upload.seek(0)
    return json.dumps([upload.name, upload.content_type, upload.size, digest])
