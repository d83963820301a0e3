"""How old the responses are that replays hand out: the time from a key's first sight."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import DurationField, ExpressionWrapper, F

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
    """Percentiles of the ages, of all ``replays`` or of about ``SAMPLE`` of them.

    Ranked here and not by window functions: MariaDB 10.11 sorts once for two windows whose
    orders are expressions, and ranks by the wrong one.
    """
    empty = (None,) * len(period.bars)
    if not source.dated:
        return Ages(medians=empty, p95s=empty)
    rows = within(source.events, "at", period.start, period.end)
    rows = rows.filter(kind=Outcome.REPLAYED.value)
    if replays > SAMPLE:
        rows = rows.filter(key__lt=_bound(SAMPLE / replays))
    age = ExpressionWrapper(F("at") - F("key__created_at"), output_field=DurationField())
    bars: list[list[timedelta]] = [[] for _ in period.bars]
    for bar, found in rows.order_by().values_list(bar_number("at", period), age):
        bars[bar].append(max(found, timedelta(0)))
    for ages in bars:
        ages.sort()
    every = sorted(itertools.chain.from_iterable(bars))
    return Ages(
        median=_percentile(every, 50),
        p95=_percentile(every, 95),
        medians=tuple(_percentile(ages, 50) for ages in bars),
        p95s=tuple(_percentile(ages, 95) for ages in bars),
        sampled=replays > SAMPLE,
    )


def _percentile(ages: Sequence[timedelta], percent: int) -> timedelta | None:
    """The first of the sorted ages whose rank reaches ``percent`` of their number."""
    return ages[-(-len(ages) * percent // 100) - 1] if ages else None


def _bound(share: float) -> uuid.UUID:
    """The key id that ``share`` of all keys are below: ids are digests, so any are as good."""
    part = min(max(round(share * 0x10000), 1), 0xFFFF)
    return uuid.UUID(bytes=part.to_bytes(2, "big") * 8)
