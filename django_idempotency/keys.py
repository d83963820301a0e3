"""Read an ``Idempotency-Key`` header.

The IETF draft makes the value a structured-field String (RFC 9651 §3.3.3), every vendor
takes a bare token. Both are read, and both spellings of one value are the same key, so a
client that upgrades does not pay twice. What is malformed is refused and never ignored:
ignoring it would silently drop the protection the client asked for.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .exceptions import KeyInvalid

__all__ = ["KeyRules", "parse_key"]

_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE_ITEM = (
    rf"(?:{_STRING}"
    r"|-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"  # decimal, integer
    r"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"  # token
    r"|:(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?:"  # byte sequence
    r"|\?[01]|@-?[0-9]{1,15}"  # boolean, date
    r'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*")'  # display string
)
_PARAMETERS = rf"(?:; *[a-z*][a-z0-9_\-.*]*(?:={_BARE_ITEM})?)*"
_QUOTED = re.compile(rf"({_STRING})({_PARAMETERS})")
_PLAIN = re.compile(rf"(?<!%){_STRING}")
_DISPLAY = re.compile(r'%"([^"]*)"')
_ESCAPE = re.compile(r'\\(["\\])')
# A bare key may hold any visible ASCII but what would make it ambiguous: a list (two header
# lines arrive joined by a comma), parameters, or a string.
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")
_LIST = re.compile(rf"{_STRING}{_PARAMETERS} *,")
_UUID = "uuid"
_ONE = "Send exactly one key."
_TWICE = "Perhaps the header was sent twice, which arrives as a list: send exactly one key, once."


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRules:
    """What a key must look like; lengths in characters, after decoding."""

    strict: bool = False  # only the quoted form of the draft
    min_length: int = 1
    max_length: int = 255
    pattern: str | None = None  # "uuid", or a regular expression for the whole key


def parse_key(header: str, rules: KeyRules) -> str:
    """Return the key in ``header``, without quotes and escapes.

    Raises:
        KeyInvalid: the value is empty, malformed, doubled, too long or too short, or does
            not match the pattern. The message never quotes it.
    """
    value = header.strip(" ")
    if not value:
        raise KeyInvalid("The idempotency key is empty. Send a UUID, or no key at all.")
    key = _unquote(value) if value[0] == '"' else _bare(value, strict=rules.strict)
    if not rules.min_length <= len(key) <= rules.max_length:
        raise KeyInvalid(
            f"An idempotency key has {rules.min_length} to {rules.max_length} characters here, "
            f"this one has {len(key)}."
        )
    if rules.pattern is not None and not _matches(key, rules.pattern):
        form = "a UUID" if rules.pattern == _UUID else f"of the form {rules.pattern}"
        raise KeyInvalid(f"An idempotency key must be {form} here.")
    return key


def _unquote(value: str) -> str:
    found = _QUOTED.fullmatch(value)
    if found is None or not _readable(found[2]):
        raise KeyInvalid(
            "The idempotency key starts with a double quote but is not one quoted string "
            '(RFC 9651): between the quotes stand printable ASCII characters, with \\" and \\\\ '
            f"escaped. {_TWICE if _LIST.match(value) else _ONE}"
        )
    return _ESCAPE.sub(r"\1", found[1][1:-1])


def _readable(parameters: str) -> bool:
    """Whether the display strings among the parameters hold UTF-8 (RFC 9651 §4.2.10)."""
    try:
        for text in _DISPLAY.findall(_PLAIN.sub("", parameters)):
            unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def _bare(value: str, *, strict: bool) -> str:
    if strict:
        raise KeyInvalid("The idempotency key must stand in double quotes (RFC 9651 String).")
    if _BARE.fullmatch(value) is None:
        raise KeyInvalid(
            "An idempotency key without quotes holds visible ASCII characters, no spaces, "
            f"commas, semicolons, quotes or backslashes. {_TWICE if ',' in value else _ONE}"
        )
    return value


def _matches(key: str, pattern: str) -> bool:
    if pattern == _UUID:
        try:
            return str(uuid.UUID(key)) == key.lower()
        except ValueError:
            return False
    return re.fullmatch(pattern, key) is not None
