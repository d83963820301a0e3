"""How old the responses are that replays hand out: the time from a key's first sight."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Window
from django.db.models.functions import RowNumber

from django_idempotency.protocol import Outcome

from .period import Period
from .source import Source, bar_number, within

__all__ = ["SAMPLE", "Ages", "replay_ages"]

SAMPLE = 5_000  # replays; enough to estimate a percentile to 1 % or so


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """Half of the replays were at most as old as the median, 19 of 20 as the 95th percentile."""

    median: timedelta | None = None  # None: no replay
    p95: timedelta | None = None
    medians: tuple[timedelta | None, ...] = ()  # bar by bar
    p95s: tuple[timedelta | None, ...] = ()
    sampled: bool = False  # estimated from the replays of some keys


def replay_ages(source: Source, period: Period, replays: int) -> Ages:
    """Percentiles of the ages, in one pass over all ``replays`` or over about ``SAMPLE``."""
    empty = (None,) * len(period.bars)
    if not source.dated:
        return Ages(medians=empty, p95s=empty)
    rows = within(source.events, "at", period.start, period.end)
    rows = rows.filter(kind=Outcome.REPLAYED.value)
    if replays > SAMPLE:
        rows = rows.filter(key__lt=_bound(SAMPLE / replays))
    medians, p95s = list[timedelta | None](empty), list[timedelta | None](empty)
    median = p95 = None
    for row in _percentile_rows(rows, period):
        age = max(row["age"], timedelta(0))
        if _hits(row["bar_half"], 2):
            medians[row["bar"]] = age
        if _hits(row["bar_p95"], 20):
            p95s[row["bar"]] = age
        median = age if _hits(row["half"], 2) else median
        p95 = age if _hits(row["p95"], 20) else p95
    return Ages(
        median=median,
        p95=p95,
        medians=tuple(medians),
        p95s=tuple(p95s),
        sampled=replays > SAMPLE,
    )


def _percentile_rows(rows: Any, period: Period) -> Any:
    """The replays whose age is a percentile: of their bar, or of all.

    The p-th percentile is the row whose rank first reaches p per cent of the count; the
    annotations say how far the rank is past it, in whole numbers.
    """
    age = ExpressionWrapper(F("at") - F("key__created_at"), output_field=DurationField())
    rows = rows.annotate(age=age, bar=bar_number("at", period)).annotate(
        rank=Window(RowNumber(), order_by="age"),
        total=Window(Count("*")),
        bar_rank=Window(RowNumber(), partition_by=F("bar"), order_by="age"),
        bar_total=Window(Count("*"), partition_by=F("bar")),
    )
    rows = rows.annotate(
        half=F("rank") * 2 - F("total"),
        p95=F("rank") * 20 - F("total") * 19,
        bar_half=F("bar_rank") * 2 - F("bar_total"),
        bar_p95=F("bar_rank") * 20 - F("bar_total") * 19,
    )
    hit = Q(half__range=(0, 1)) | Q(p95__range=(0, 19))
    hit |= Q(bar_half__range=(0, 1)) | Q(bar_p95__range=(0, 19))
    return rows.filter(hit).values("bar", "age", "half", "p95", "bar_half", "bar_p95")


def _hits(distance: int, step: int) -> bool:
    return 0 <= distance < step


def _bound(share: float) -> uuid.UUID:
    """The key id that ``share`` of all keys are below: ids are digests, so any are as good.

    The same two bytes throughout, because MariaDB compares the last group first.
    """
    part = min(max(round(share * 0x10000), 1), 0xFFFF)
    return uuid.UUID(bytes=part.to_bytes(2, "big") * 8)
