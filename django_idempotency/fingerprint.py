"""Which requests count as the same, and what may be said about two that do not.

Pure functions over bytes. Parts are length-prefixed before they are hashed, so no two
splits of one text meet; the result is an HMAC, so a leaked table does not let anyone guess
card numbers by hashing candidates.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "canonical_json",
    "canonical_pairs",
    "content_digest",
    "differences",
    "field_digests",
    "flatten",
    "load_json",
    "sign",
    "split_digest",
    "without",
]

MAX_DEPTH = 100  # levels of a document that is compared by content, not by its bytes
MAX_FIELDS = 200  # fields that a record describes; the fingerprint covers all
MAX_NAME = 120  # characters of a field's name in a record
_DIGEST_BYTES = 6  # short: enough to see a difference, too little to be worth guessing


def content_digest(parts: Iterable[bytes]) -> bytes:
    """SHA-256 over ``parts``, each with its length before it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def sign(digest: bytes, secrets: Sequence[bytes]) -> tuple[str, ...]:
    """The fingerprint of a content digest under each secret, the current one first."""
    return tuple(hmac.digest(secret, digest, "sha256").hex() for secret in secrets)


_TOO_DEEP = "nested too deep to compare"


class _Literal:
    """A number as it was written: 1.10 and 1.1 may be one float and still two requests."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Ambiguous(ValueError):
    """An object names a member twice; parsers disagree about its meaning."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Ambiguous
    return members


_DECODER = json.JSONDecoder(
    parse_float=_Literal, parse_constant=_Literal, object_pairs_hook=_unique_members
)


def load_json(raw: bytes) -> Any:
    """Parse JSON for comparison.

    Raises:
        ValueError: not JSON, a doubled member name, too deep, or a number too long; the
            caller compares the raw bytes instead.
    """
    try:
        document = _DECODER.decode(raw.decode())
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if _is_deep(document):
        raise ValueError(_TOO_DEEP)
    return document


def _is_deep(document: Any) -> bool:
    """Whether it is nested beyond ``MAX_DEPTH``.

    What Python itself can follow depends on how much of the stack is in use, and a retry must
    not be compared in another way than the first request was.
    """
    level = [document] if isinstance(document, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def canonical_json(document: Any) -> list[bytes]:
    """Parts that are equal for equal JSON: member order, white space, escapes do not count."""
    literals: list[str] = []

    def spell(value: Any) -> float:
        literals.append(value.text)
        return float("nan")  # marks the place; load_json() never yields a NaN

    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=spell)
    return [text.encode(), *(literal.encode() for literal in literals)]


def canonical_pairs(pairs: Iterable[tuple[str, str]]) -> list[bytes]:
    """Parts that are equal for equal forms: order counts among values of one name only."""
    ordered = sorted(pairs, key=lambda pair: pair[0])  # stable
    return [text.encode("utf-8", "surrogatepass") for pair in ordered for text in pair]


def without(document: Any, excluded: Collection[str]) -> Any:
    """``document`` less the members named in ``excluded``; dots lead into nested objects."""
    if not excluded or not isinstance(document, dict):
        return document
    nested: dict[str, list[str]] = {}
    for name in excluded:
        head, dot, rest = name.partition(".")
        if dot:
            nested.setdefault(head, []).append(rest)
    return {
        name: without(value, nested.get(name, ()))
        for name, value in document.items()
        if name not in excluded
    }


def flatten(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value as text) for each leaf of a JSON document."""
    if isinstance(document, dict) and document:
        for member, value in document.items():
            yield from flatten(value, f"{name}.{member}" if name else member)
    elif isinstance(document, list) and document:
        for index, value in enumerate(document):
            yield from flatten(value, f"{name}[{index}]")
    elif type(document) is int:
        yield name, repr(document)  # as json.dumps() spells it, in a tenth of the time
    else:
        yield name, document.text if isinstance(document, _Literal) else json.dumps(document)


def field_digests(
    fields: Iterable[tuple[str, str]], *, secret: bytes, salt: bytes
) -> dict[str, str]:
    """Short keyed digests of field values, so that two requests can be compared by name.

    ``salt`` differs per key: equal values of two keys have unrelated digests.
    """
    digests: dict[str, str] = {}
    for name, value in fields:
        if len(digests) == MAX_FIELDS:
            break
        short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
        text = f"{len(name)}:{name}{value}".encode("utf-8", "surrogatepass")
        mac = hashlib.blake2b(text, key=secret, salt=salt[:16], digest_size=_DIGEST_BYTES)
        digests[short] = mac.hexdigest()
    return digests


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """{field: "changed" | "added" | "removed"} between two maps of digests or values."""
    changes = {
        name: "changed" if name in before else "added"
        for name, value in after.items()
        if before.get(name) != value
    }
    return changes | {name: "removed" for name in before if name not in after}


def file_digest(chunks: Iterable[bytes]) -> bytes:
    """SHA-256 of a file that is read in chunks and never held in memory."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def split_digest(chunks: Iterable[bytes], mark: bytes) -> bytes:
    """SHA-256 of what stands between the marks, whatever these are; read in chunks as well."""
    digest, part, rest = hashlib.sha256(), hashlib.sha256(), b""
    for chunk in chunks:
        *ended, rest = (rest + chunk).split(mark)
        for piece in ended:
            part.update(piece)
            digest.update(part.digest())
            part = hashlib.sha256()
        safe = max(0, len(rest) - len(mark) + 1)  # the end may be the beginning of a mark
        part.update(rest[:safe])
        rest = rest[safe:]
    part.update(rest)
    digest.update(part.digest())
    return digest.digest()
