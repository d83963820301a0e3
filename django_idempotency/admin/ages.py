"""How old the responses are that replays hand out: the time from a key's first sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import BigIntegerField, Count, DurationField, ExpressionWrapper, F, Q, Window
from django.db.models.functions import Cast, RowNumber

from django_idempotency.protocol import Outcome

from .estimates import SAMPLED, below, share_for
from .period import Period
from .source import Rows, Source, bar_number, within

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
    """Percentiles of the ages of all ``replays``, or of about ``SAMPLE`` of them."""
    bars = len(period.bars)
    if not source.dated:
        return Ages(medians=(None,) * bars, p95s=(None,) * bars)
    rows = within(source.events, "at", period.start, period.end)
    rows = rows.filter(kind=Outcome.REPLAYED.value)
    if replays > SAMPLE:
        # No more events than that, even if few of them are replays of the period.
        share = min(SAMPLE / replays, share_for(source.events, "key", SAMPLED))
        rows = rows.filter(key__lt=below(share))
    age = ExpressionWrapper(F("at") - F("key__created_at"), output_field=DurationField())
    rows = rows.annotate(age=age, bar=bar_number("at", period))
    by_bar = _percentiles(rows, partition_by=[F("bar")])
    median, p95 = _percentiles(rows).get(None, (None, None))
    return Ages(
        median=median,
        p95=p95,
        medians=tuple(by_bar[bar][0] if bar in by_bar else None for bar in range(bars)),
        p95s=tuple(by_bar[bar][1] if bar in by_bar else None for bar in range(bars)),
        sampled=replays > SAMPLE,
    )


def _percentiles(
    rows: Rows, partition_by: Sequence[F] | None = None
) -> dict[int | None, tuple[timedelta, timedelta]]:
    """{bar: (median, 95th percentile)}, or {None: …} of all bars together.

    The p-th percentile is the row whose rank first reaches p per cent of the count; ``half``
    and ``most`` say how far a rank is past it, in whole numbers. One statement for both ways
    to part the rows would be quicker, but MariaDB 10.11 then counts one like the other.
    """
    # MySQL counts without a sign, and refuses a difference below nought.
    rank, total = (Cast(count, BigIntegerField()) for count in ("rank", "total"))
    ranked = rows.annotate(
        rank=Window(RowNumber(), partition_by=partition_by, order_by="age"),
        total=Window(Count("*"), partition_by=partition_by),
    ).annotate(half=rank * 2 - total, most=rank * 20 - total * 19)
    found: dict[int | None, list[timedelta]] = {}
    hits = ranked.filter(Q(half__range=(0, 1)) | Q(most__range=(0, 19)))
    for bar, age in hits.order_by("rank").values_list("bar", "age"):
        found.setdefault(bar if partition_by else None, []).append(max(age, timedelta(0)))
    # One row is both where there is only one, and the median comes first.
    return {bar: (ages[0], ages[-1]) for bar, ages in found.items()}
