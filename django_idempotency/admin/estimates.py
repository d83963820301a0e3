"""Figures of more rows than a page may count: estimated from the keys whose ids are small.

Ids are digests, so any part of their range is a fair sample. It is always the same one, so
its rows are in the database's cache when the next person looks.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from .period import Period
from .source import Rows, bar_number, counts, goes_beyond, within

__all__ = [
    "SAMPLED",
    "Bars",
    "bars",
    "below",
    "estimate",
    "estimates",
    "one_pass",
    "rounded",
    "share_for",
]

SAMPLED = 20_000  # rows, for 1 % of them all; each is on a page of its own
_SIZED_BY = 1_000  # rows that tell how large a table is, to 3 % or so
_STEPS = 0x10000  # of a share
_FINER = 16


@dataclass(frozen=True, slots=True)
class Bars:
    """Rows of one sort, bar by bar."""

    values: tuple[int, ...]
    estimated: bool = False


def bars(
    rows: Rows,
    column: str,
    ids: str,
    period: Period,
    *,
    sampled: int = SAMPLED,
    kinds: Sequence[str] = (),
) -> list[Bars]:
    """How many rows each bar has: counted, or estimated where they are too many.

    ``ids`` names the column that holds the key's id. With ``kinds`` each by itself, for a rare
    kind is counted while another is estimated.
    """
    sorts = [rows.filter(kind=kind) for kind in kinds] or [rows]
    many = [goes_beyond(one, column, period) for one in sorts]
    few = [one for one, is_many in zip(sorts, many, strict=True) if not is_many]
    counted = iter(counts(few, column, period) if few else [])
    guessed = (
        estimates(rows, column, ids, period, sampled=sampled, kinds=kinds) if any(many) else []
    )
    return [
        guessed[place] if is_many else Bars(next(counted)) for place, is_many in enumerate(many)
    ]


def one_pass(rows: Rows, column: str, period: Period) -> Bars:
    """Few rows, of which no index knows all that is asked: read once."""
    rows = within(rows, column, period.start, period.end)
    found = _by_bar(rows, column, period, ())
    return Bars(tuple(found.get((bar,), 0) for bar in range(len(period.bars))))


def estimates(
    rows: Rows,
    column: str,
    ids: str,
    period: Period,
    *,
    sampled: int = SAMPLED,
    kinds: Sequence[str] = (),
) -> list[Bars]:
    """From all kinds and times of some keys: an index of either would be read as a whole."""
    share = share_for(rows, ids, sampled)
    by = ("kind",) if kinds else ()
    found = _by_bar(rows.filter(**{f"{ids}__lt": below(share)}), column, period, by)
    sorts: list[tuple[str, ...]] = [(kind,) for kind in kinds] or [()]
    return [
        Bars(
            tuple(estimate(found.get((*sort, bar), 0), share) for bar in range(len(period.bars))),
            estimated=True,
        )
        for sort in sorts
    ]


def _by_bar(rows: Rows, column: str, period: Period, by: Sequence[str]) -> dict[Any, int]:
    """{(*by, bar): rows}"""
    groups = rows.values(*by, bar=bar_number(column, period)).annotate(rows=Count("*"))
    return {tuple(group): size for *group, size in groups.values_list(*by, "bar", "rows")}


def estimate(found: int, share: float) -> int:
    """What ``found`` in a sample stands for, in no more digits than it has."""
    return rounded(found / share, 1 if found < 100 else 2 if found < 10_000 else 3)


def rounded(value: float, digits: int = 3) -> int:
    return int(float(f"{value:.{digits - 1}e}"))


def share_for(rows: Rows, ids: str, sampled: int) -> float:
    """The share of a table that has about ``sampled`` rows, whoever may see them."""
    everybodys = rows.model.objects.using(rows.db).order_by()
    share, found = 1 / _STEPS, 0
    while share < 1:
        found = everybodys.filter(**{f"{ids}__lt": below(share)}).count()
        if found >= _SIZED_BY:
            break
        share *= _FINER
    return _whole_steps(share * sampled / found) if found else 1


def below(share: float) -> uuid.UUID:
    """The key id that ``share`` of all keys are below: ids are digests, so any are as good.

    The same two bytes throughout, because MariaDB compares the last group first, and the marks
    of a random UUID, because it compares nothing with what is none.
    """
    part = round(_whole_steps(share) * _STEPS)
    return uuid.UUID(bytes=part.to_bytes(2, "big") * 8, version=4)


def _whole_steps(share: float) -> float:
    return min(max(round(share * _STEPS), 1), _STEPS - 1) / _STEPS
