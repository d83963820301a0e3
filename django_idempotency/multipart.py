"""Multipart bodies: compared by their parts, files by digests read in chunks.

The boundary is new with each attempt, so the bytes say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from .body import CSRF, Body, json_body, numbered, pairs_body
from .fingerprint import canonical_pairs, file_digest, load_json

__all__ = ["form_body"]


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
