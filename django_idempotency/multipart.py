"""Multipart bodies: compared by their parts, files by digests read in chunks.

The boundary is new with each attempt, so the bytes say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from .body import Body, numbered, pairs_body
from .fingerprint import canonical_pairs, file_digest

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile
    from django.http import QueryDict
    from django.utils.datastructures import MultiValueDict

__all__ = ["form_body"]


def form_body(
    post: QueryDict, files: MultiValueDict[str, UploadedFile[Any]], exclude: Collection[str]
) -> Body:
    """A multipart body by its parsed parts; files are read in chunks and rewound."""
    pairs = [(name, value) for name, values in post.lists() for value in values]
    described = []
    for name, uploads in files.lists():
        if name not in exclude:
            described += [(name, _about(upload)) for upload in uploads]
    body = pairs_body(pairs, exclude)
    return Body(
        parts=[*body.parts, b"files", *canonical_pairs(described)],
        fields=[*body.fields, *numbered(described)],
        document={**body.document, **{name: "[file]" for name, _ in described}},
    )


def _about(upload: UploadedFile[Any]) -> str:
    digest = file_digest(upload.chunks()).hex()
    upload.seek(0)
    return json.dumps([upload.name, upload.content_type, upload.size, digest])
