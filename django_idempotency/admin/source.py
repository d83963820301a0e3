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

__all__ = ["Rows", "Source", "bar_number", "counts", "counts_in_one_pass", "within"]

Rows = QuerySet[Any, Any]


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


def bar_number(column: str, period: Period) -> Case:
    """The number of the bar that a row within the period belongs to."""
    ends = enumerate(period.edges[1:-1])
    whens = (When(**{f"{column}__lt": for_database(end)}, then=Value(bar)) for bar, end in ends)
    return Case(*whens, default=Value(len(period.bars) - 1), output_field=IntegerField())


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


def counts_in_one_pass(rows: Rows, column: str, period: Period) -> tuple[int, ...]:
    """The same for few rows that no index finds: the table is read once."""
    found = dict(
        within(rows, column, period.start, period.end)
        .values(bar=bar_number(column, period))
        .annotate(rows=Count("*"))
        .values_list("bar", "rows")
    )
    return tuple(found.get(bar, 0) for bar in range(len(period.bars)))
