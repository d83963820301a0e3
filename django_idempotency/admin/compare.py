"""Two requests under one key: which fields differ, and the bodies side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from django.utils.translation import gettext as _

from .documents import Document, leaves, tokens, whole
from .payload import Record

__all__ = ["Change", "Row", "Side", "changes", "side_by_side"]

LINES = 400  # of a body; difflib's time grows with their square
_CONTEXT = 3  # equal lines that are left standing around a difference
_VALUE = re.compile(r'(\s*(?:"(?:\\.|[^"\\])*": )?)(.*?)(,?)', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field of the two requests that is not the same; values only where they may be seen."""

    name: str
    how: str  # "changed", "added" or "removed"
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One line: ``marked`` differs, what is around it does not."""

    number: int
    before: str
    marked: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of both bodies; ``folded`` counts equal lines that are not shown."""

    kind: str  # "equal", "changed", "added", "removed" or "folded"
    left: Side | None = None
    right: Side | None = None
    folded: int = 0


def changes(stored: str, mine: Record, theirs: Record) -> list[Change]:
    """What a conflict's row says differed; ``stored`` is JSON of {field: how}, or broken."""
    try:
        differences = json.loads(stored) if stored else {}
    except (ValueError, RecursionError):
        return []
    if not isinstance(differences, dict):
        return []
    before, after = (_values(record) for record in (mine, theirs))
    return [
        Change(
            name=_label(whole(name)),
            how=how,
            before=before.get(name, ""),
            after=after.get(name, ""),
        )
        for name, how in differences.items()
        if how in ("changed", "added", "removed")
    ]


def _values(record: Record) -> dict[str, str]:
    if not record.has_body:
        return {}
    try:
        return dict(leaves(record.body))
    except RecursionError:
        return {}


def _label(name: str) -> str:
    """What is compared besides the fields of the body has names that begin with ``@``."""
    special = {
        "@method": _("method"),
        "@path": _("path"),
        "@query": _("query string"),
        "@content-type": _("media type"),
    }
    return special.get(name) or name or _("(the whole body)")


def side_by_side(mine: Document, theirs: Document) -> list[Row]:
    """Rows of a two-column comparison; long equal stretches are folded."""
    left, right = _lines(mine), _lines(theirs)
    # A trailing comma says something about the next line.
    plain = [line.rstrip(",") for line in left], [line.rstrip(",") for line in right]
    matcher = SequenceMatcher(a=plain[0], b=plain[1], autojunk=False)
    rows: list[Row] = []
    for tag, low, high, other_low, other_high in matcher.get_opcodes():
        mine_part, theirs_part = left[low:high], right[other_low:other_high]
        if tag == "equal":
            equal = list(_equal(mine_part, theirs_part, low, other_low))
            rows += _folded(equal, first=not rows, last=high == len(left))
        else:
            rows += _different(mine_part, theirs_part, low, other_low)
    return rows


def _lines(document: Document) -> list[str]:
    try:
        text = "".join(token.text for token in tokens(document))
    except RecursionError:
        return [_("(nested too deep)")]
    lines = text.split("\n")
    return lines if len(lines) <= LINES else [*lines[:LINES], "…"]


def _equal(left: Sequence[str], right: Sequence[str], low: int, other: int) -> Iterator[Row]:
    pairs = zip(left, right, strict=True)
    for index, (mine, theirs) in enumerate(pairs, start=1):
        yield Row("equal", Side(low + index, mine), Side(other + index, theirs))


def _folded(rows: list[Row], *, first: bool, last: bool) -> list[Row]:
    head = 0 if first else _CONTEXT
    tail = 0 if last else _CONTEXT
    hidden = len(rows) - head - tail
    if hidden <= _CONTEXT:
        return rows
    return [*rows[:head], Row("folded", folded=hidden), *rows[len(rows) - tail :]]


def _different(left: Sequence[str], right: Sequence[str], low: int, other: int) -> Iterator[Row]:
    for index in range(max(len(left), len(right))):
        mine = _marked(low + index + 1, left[index]) if index < len(left) else None
        theirs = _marked(other + index + 1, right[index]) if index < len(right) else None
        kind = "removed" if theirs is None else "added" if mine is None else "changed"
        yield Row(kind, mine, theirs)


def _marked(number: int, line: str) -> Side:
    found = _VALUE.fullmatch(line)
    return Side(number, *found.groups()) if found else Side(number, "", line)
