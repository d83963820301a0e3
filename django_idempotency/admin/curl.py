"""The line that sends a request again: for a shell, and without anyone's credentials."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from django_idempotency.conf import get_settings

from .documents import Document, compact

if TYPE_CHECKING:
    from django_idempotency.models import IdempotencyKey

__all__ = ["curl_line"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")  # in a header, they would begin another one


def curl_line(key: IdempotencyKey, origin: str, body: Document = None) -> str:
    """``origin`` is where the API is taken to be, such as ``https://shop.example``."""
    parts = [
        f"curl -X {_word(key.method)} {_word(origin + key.path)}",
        f"-H {_word(f'{get_settings().HEADER}: {_quoted(key.key)}')}",
    ]
    if body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"--data {shlex.quote(compact(body))}")
    return " \\\n  ".join(parts)


def _word(text: str) -> str:
    return shlex.quote(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def _quoted(key: str) -> str:
    """The form that every rule for keys accepts: a string of RFC 9651."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
