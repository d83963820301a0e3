"""The line that sends a request again: for a shell, and without anyone's credentials."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.utils.translation import gettext as _

from django_idempotency.conf import get_settings
from django_idempotency.redaction import REDACTED

from .documents import Document, Hidden, Members, Number, compact, is_whole
from .payload import Record, media_type_of

if TYPE_CHECKING:
    from django_idempotency.models import IdempotencyKey

__all__ = ["Repeat", "repeat"]

# A pasted control character may end the line or begin another: they are spelled out, even in
# quotes. In a header, they would begin another one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PATH = "/%:@!$&'()*+,;=~"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_FILE = "[file]"  # what a record keeps of one


class _CannotSay(Exception):
    """Nothing that curl is told sends this body."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A command for a shell, and what has to be known before it is run."""

    line: str
    notes: tuple[str, ...]


def repeat(key: IdempotencyKey, origin: str, record: Record, *, may_see: bool) -> Repeat:
    """``origin`` is where the API is taken to be, such as ``https://shop.example``."""
    path = quote(key.path, safe=_PATH)  # it is encoded, but curl takes [] and {} for patterns
    parts = [
        f"curl -X {_word(key.method)} {_word(origin + path)}",
        f"-H {_word(f'{get_settings().HEADER}: {_quoted(key.key)}')}",
    ]
    body, notes = _body(key, record, may_see=may_see)
    notes.append(_("Credentials and the query string are not kept: add them."))
    notes.append(_("Unless all else is the same, the answer is a conflict."))
    return Repeat(" \\\n  ".join([*parts, *body]), tuple(notes))


def _body(key: IdempotencyKey, record: Record, *, may_see: bool) -> tuple[list[str], list[str]]:
    """Options that send the body, and what is missing of it."""
    if not may_see:
        return [], [_("Bodies are for people with the permission to view stored responses.")]
    if not record.has_body:
        return [], [_("The body of the request is not kept: add it, if there was one.")]
    media_type = media_type_of(key, record)
    write = {_FORM: _form, _MULTIPART: _multipart}.get(media_type, _json)
    try:
        options = write(record.body, media_type)
    except _CannotSay:
        return [], [_("The body of this request cannot be put in a command: add it.")]
    notes = [] if media_type else [_("Its type is not known any more: JSON is assumed.")]
    return options, notes + _lacking(record, media_type)


def _lacking(record: Record, media_type: str) -> list[str]:
    """What of a body that is in the line was not kept."""
    notes = []
    if REDACTED in compact(record.body):
        notes.append(_("Redacted values are not kept: replace them."))
    if not isinstance(record.body, Members) or media_type not in {_FORM, _MULTIPART}:
        return notes
    if media_type == _MULTIPART and any(value == _FILE for _name, value in record.body):
        notes.append(_("Files are not kept: put their paths in the place of FILE."))
    sent = [name for name in record.names if not name.startswith("@")]
    if len(sent) > len(record.body):
        notes.append(_("Of a field that was sent more than once, only the last value is kept."))
    return notes


def _json(body: Document, media_type: str) -> list[str]:
    if not media_type and _is_flat(body):  # it could be a form as well
        raise _CannotSay
    text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", compact(body))
    return [
        f"-H {_word(f'Content-Type: {media_type or _JSON}')}",
        f"--data-raw {shlex.quote(text)}",
    ]


def _form(body: Document, _media_type: str) -> list[str]:
    return [_pair(name, value) for name, value in _fields(body)]


def _pair(name: str, value: str) -> str:
    """curl expects names to be encoded, and cannot encode a value that has none."""
    safe = _encoded(name)
    if not name or _CONTROL.search(value):
        return f"--data-raw {_word(f'{safe}={_encoded(value)}')}"
    return f"--data-urlencode {_word(f'{safe}={value}')}"


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _multipart(body: Document, _media_type: str) -> list[str]:
    return [_part(name, value) for name, value in _fields(body)]


def _part(name: str, value: str) -> str:
    # A name ends at the first "=", and quotes in one are encoded in a way of curl's own.
    if not name or re.search(r'[="\\]', name) or _CONTROL.search(name) or "\x00" in value:
        raise _CannotSay
    if value == _FILE:
        return f"-F {_word(f'{name}=@FILE')}"
    return f"--form-string {_literal(f'{name}={value}')}"  # -F would read what follows @ and <


def _fields(body: Document) -> list[tuple[str, str]]:
    """Name and value of each field, as far as they are the text that was sent."""
    if not isinstance(body, Members) or not _is_flat(body):
        raise _CannotSay  # what a project's own redaction has made of it
    fields = [(name, str(value)) for name, value in body]
    if not all(is_whole(name + value) for name, value in fields):
        raise _CannotSay
    return fields


def _is_flat(body: Document) -> bool:
    """Whether it is what a form has: names and texts."""
    return isinstance(body, Members) and all(
        isinstance(value, (str, Hidden)) and not isinstance(value, Number) for _name, value in body
    )


def _word(text: str) -> str:
    return shlex.quote(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def _literal(text: str) -> str:
    """Any text as one word of bash, zsh or ksh."""
    if not _CONTROL.search(text):
        return shlex.quote(text)
    # "!" as well: an interactive shell may look for one before it knows what is quoted.
    escaped = re.sub(rf"{_CONTROL.pattern}|[\\'!]", _octal, text)
    return f"$'{escaped}'"


def _octal(found: re.Match[str]) -> str:
    return "".join(f"\\{byte:03o}" for byte in found[0].encode())


def _quoted(key: str) -> str:
    """The form that every rule for keys accepts: a string of RFC 9651."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
