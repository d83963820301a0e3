"""JSON as it was stored: read, stripped of what must not be seen, and printed for people.

Numbers keep their spelling (10.10 is not 10.1 to someone who looks for a difference), and so
do members that occur twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from django_idempotency.redaction import REDACTED, is_sensitive

__all__ = [
    "Document",
    "Hidden",
    "Members",
    "Number",
    "Token",
    "compact",
    "cut",
    "is_whole",
    "leaves",
    "parse",
    "redact",
    "tokens",
    "whole",
]


_EDGE = re.compile(r"([{\[])\n *|\n *(?=[}\]])")  # after an opening bracket, before a closing one
_MARGIN = re.compile(r"\n *")
_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON can spell one, UTF-8 cannot


class Members(tuple[tuple[str, "Document"], ...]):
    """The members of an object, in order, doubles included."""

    __slots__ = ()


class Number(str):
    """A number, or NaN, as it was written."""

    __slots__ = ()


class Hidden:
    """Stands for a value that a pattern forbids to show."""

    def __str__(self) -> str:
        return REDACTED


Document = Members | list["Document"] | Number | Hidden | str | bool | None


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text; ``kind`` is "name", "string", "number", "hidden" or "" for the rest."""

    text: str
    kind: str = ""


def parse(text: str) -> Document:
    """Read a JSON document.

    Raises:
        ValueError: it is not JSON, or nested too deep to be looked at.
    """
    try:
        document: Document = json.loads(
            text,
            parse_float=Number,
            parse_int=Number,
            parse_constant=Number,
            object_pairs_hook=Members,
        )
    except RecursionError as error:
        msg = "nested too deep"
        raise ValueError(msg) from error
    return document


def redact(document: Document, patterns: Collection[str]) -> Document:
    """``document`` with the values of sensitive members hidden.

    Raises:
        ValueError: nested too deep.
    """
    try:
        return _redact(document, patterns)
    except RecursionError as error:
        msg = "nested too deep"
        raise ValueError(msg) from error


def _redact(document: Document, patterns: Collection[str]) -> Document:
    if isinstance(document, Members):
        return Members(
            (name, Hidden() if is_sensitive(name, patterns) else _redact(value, patterns))
            for name, value in document
        )
    if isinstance(document, list):
        return [_redact(item, patterns) for item in document]
    return document


def tokens(document: Document, margin: str = "\n") -> Iterator[Token]:
    """Print with two spaces a level, lazily: who has seen enough may stop."""
    if isinstance(document, (Members, list)) and document:
        yield from _container(document, margin)
    else:
        yield _leaf(document)


def _container(document: Members | list[Document], margin: str) -> Iterator[Token]:
    opening, closing = "{}" if isinstance(document, Members) else "[]"
    inner = margin + "  "
    separator = opening + inner
    for name, value in _items(document):
        yield Token(separator)
        if name is not None:
            yield Token(_quoted(name), "name")
            yield Token(": ")
        yield from tokens(value, inner)
        separator = "," + inner
    yield Token(margin + closing)


def _items(document: Members | list[Document]) -> Iterator[tuple[str | None, Document]]:
    if isinstance(document, Members):
        yield from document
    else:
        yield from ((None, value) for value in document)


def _leaf(document: Document) -> Token:
    if isinstance(document, Members):
        return Token("{}")
    if isinstance(document, list):
        return Token("[]")
    if isinstance(document, Hidden):
        return Token(_quoted(str(document)), "hidden")
    if isinstance(document, Number):
        return Token(str(document), "number")
    if isinstance(document, str):
        return Token(_quoted(document), "string")
    return Token(json.dumps(document), "number")


def _quoted(text: str) -> str:
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(text, ensure_ascii=False))


def is_whole(text: str) -> bool:
    """Whether a page can hold it."""
    return not _HALF.search(text)


def whole(text: str) -> str:
    """Text for a page: what is no character is shown as one that is missing."""
    return _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def compact(document: Document) -> str:
    """One line: for a command, not for the eye."""
    return "".join(
        token.text if token.kind else _MARGIN.sub(" ", _EDGE.sub(r"\1", token.text))
        for token in tokens(document)
    )


def leaves(document: Document, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, printed value) of each leaf: names as a record of the request has them."""
    if isinstance(document, Members) and document:
        yield from chain.from_iterable(
            leaves(value, f"{name}.{member}" if name else member) for member, value in document
        )
    elif isinstance(document, list) and document:
        yield from chain.from_iterable(
            leaves(value, f"{name}[{index}]") for index, value in enumerate(document)
        )
    else:
        yield name, _leaf(document).text


def cut(pieces: Iterable[Token], limit: int) -> tuple[tuple[Token, ...], bool]:
    """The first ``limit`` characters, and whether that was not all."""
    kept: list[Token] = []
    for piece in pieces:
        if len(piece.text) > limit:
            kept.append(Token(piece.text[:limit], piece.kind))
            return tuple(kept), True
        limit -= len(piece.text)
        kept.append(piece)
    return tuple(kept), False
