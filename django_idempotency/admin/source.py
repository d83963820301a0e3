"""The rows that a report may count, and how they are counted bar by bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, IntegerField, QuerySet, Value, When

from django_idempotency.conf import get_settings
from django_idempotency.models import IdempotencyKey, IdempotencyKeyQuerySet, KeyEvent, KeyTally

from .period import Period, for_database

__all__ = [
    "BOUND",
    "Rows",
    "Source",
    "bar_number",
    "counts",
    "goes_beyond",
    "newest",
    "up_to",
    "within",
]

Rows = QuerySet[Any, Any]
BOUND = 100_000  # rows of a sort that are counted; of more, figures are estimated


@dataclass(frozen=True, slots=True)
class Source:
    """The rows that a person may see: keys, and what hangs on them."""

    keys: IdempotencyKeyQuerySet
    events: Rows
    tallies: Rows
    whole: bool  # no key is left out
    dated: bool  # events are recorded; otherwise uses are only counted, key by key

    @classmethod
    def of(cls, visible: IdempotencyKeyQuerySet) -> Source:
        """Everything, unless a subclass of the admin has narrowed its ``get_queryset()``."""
        alias = visible.db
        keys = IdempotencyKey.objects.using(alias).order_by()
        events: Rows = KeyEvent.objects.using(alias).order_by()
        tallies: Rows = KeyTally.objects.using(alias)
        whole = not visible.query.has_filters()
        if not whole:
            pks = visible.order_by().values("pk")
            keys, events = keys.filter(pk__in=pks), events.filter(key__in=pks)
            tallies = tallies.filter(key__in=pks)
        return cls(keys, events, tallies, whole, dated=get_settings().AUDIT == "events")


def within(rows: Rows, column: str, start: datetime, end: datetime | None) -> Rows:
    """The rows whose time is in ``start <= column < end``."""
    rows = rows.filter(**{f"{column}__gte": for_database(start)})
    return rows if end is None else rows.filter(**{f"{column}__lt": for_database(end)})


def newest(rows: Rows, column: str, start: datetime, most: int) -> tuple[Rows, Any]:
    """The rows since ``start`` and None; or the newest ``most``, and what they are newer than."""
    since = within(rows, column, start, None)
    cut = since.order_by(f"-{column}").values_list(column, flat=True)[most : most + 1].first()
    return (since if cut is None else since.filter(**{f"{column}__gt": cut})), cut


def goes_beyond(rows: Rows, column: str, period: Period) -> bool:
    """Whether a period has more than ``BOUND`` rows."""
    return up_to(BOUND + 1, within(rows, column, period.start, period.end), column) > BOUND


def up_to(most: int, rows: Rows, column: str) -> int:
    """How many rows there are, or ``most``. Only the index of a column is read."""
    return rows.order_by().values(column)[:most].count()


def bar_number(column: str, period: Period) -> Case:
    """The number of the bar that a row belongs to; -1 before the period, or one too many after."""
    edges = enumerate(period.edges, start=-1)
    whens = (When(**{f"{column}__lt": for_database(edge)}, then=Value(bar)) for bar, edge in edges)
    return Case(*whens, default=Value(len(period.bars)), output_field=IntegerField())


def counts(sorts: Sequence[Rows], column: str, period: Period) -> list[tuple[int, ...]]:
    """How many rows of each sort each bar has: one statement, one range of an index a bar.

    Grouping by a computed bar reads the same rows and takes three times as long.
    """
    size = len(period.bars)
    parts = [
        within(rows, column, start, end)
        .values(place=Value(number * size + bar, output_field=IntegerField()))
        .annotate(rows=Count("*"))
        for number, rows in enumerate(sorts)
        for bar, (start, end) in enumerate(period.bars)
    ]
    first, *others = parts
    union = first.union(*others, all=True) if others else first
    found = {row["place"]: row["rows"] for row in union.order_by()}
    flat = [found.get(place, 0) for place in range(len(parts))]
    return [tuple(flat[start : start + size]) for start in range(0, len(flat), size)]
