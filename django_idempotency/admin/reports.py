"""The figures of the admin: counted in SQL, handed out as plain values.

Made for tables of millions of rows. Keys and events are counted bar by bar, each a range
of an index that the database need not leave; what no index knows is read once, or from a
sample that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from django.db.models import Count, Q, Sum
from django.utils import timezone

from django_idempotency.models import IdempotencyKey
from django_idempotency.protocol import Outcome
from django_idempotency.rows import EVENTS_PER_KIND

from .ages import Ages, replay_ages
from .conflicts import Conflict, Leaders, latest_conflicts, leaders
from .period import Period, last_day
from .source import Source, bar_number, counts, counts_in_one_pass, within
from .states import in_progress

__all__ = ["OUTCOMES", "Day", "Overview", "Source", "Tiles", "Traffic", "overview", "tiles"]

# What can become of a keyed request, in the order in which charts stack it.
OUTCOMES = (
    Outcome.EXECUTED,
    Outcome.REPLAYED,
    Outcome.IN_FLIGHT,
    Outcome.CONFLICT,
    Outcome.FAILED,
)
_COUNTERS = {
    Outcome.REPLAYED: "replay_count",
    Outcome.IN_FLIGHT: "in_flight_count",
    Outcome.CONFLICT: "conflict_count",
    Outcome.FAILED: "failure_count",
}
_SPARK_DAYS = 14
_PAST_DAYS_KEPT = 32  # results: databases and time zones of the people who look


@dataclass(frozen=True, slots=True)
class Day:
    """One bar of the spark line."""

    start: datetime
    keys: int  # first seen on it
    conflicts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The last 24 hours, and two weeks in small."""

    requests: int
    replayed: int
    conflicts: int
    in_progress: int  # keys
    unfinished: int  # keys
    days: tuple[Day, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Keyed requests by what became of them, bar by bar.

    An execution counts at the time its key was first seen.
    """

    bars: dict[Outcome, tuple[int, ...]]

    def of(self, outcome: Outcome) -> int:
        return sum(self.bars[outcome])

    @property
    def total(self) -> int:
        return sum(self.of(outcome) for outcome in self.bars)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the overview page shows of a period."""

    traffic: Traffic
    ages: Ages
    leaders: Leaders
    latest: tuple[Conflict, ...]
    dated: bool  # False: uses have no time of their own, they count at their key's first sight
    overused_keys: int  # keys with more uses of a kind than there are events: charts lack some


def tiles(source: Source, now: datetime) -> Tiles:
    """The figures above the list of keys."""
    start = last_day(now).start
    keys = within(source.keys, "created_at", start, None).aggregate(
        seen=Count("pk"), executed=Count("completed_at")
    )
    running = source.keys.filter(in_progress()).count()
    uses = _uses_since(source, start)
    return Tiles(
        requests=keys["executed"] + sum(uses.values()),
        replayed=uses[Outcome.REPLAYED],
        conflicts=uses[Outcome.CONFLICT],
        in_progress=running,
        # Keys go on completing between the two statements.
        unfinished=max(keys["seen"] - keys["executed"] - running, 0),
        days=_spark(source, now),
    )


def overview(source: Source, period: Period) -> Overview:
    traffic = _traffic(source, period)
    return Overview(
        traffic=traffic,
        ages=replay_ages(source, period, traffic.of(Outcome.REPLAYED)),
        leaders=leaders(source, period),
        latest=latest_conflicts(source, period),
        dated=source.dated,
        overused_keys=_overused_keys(source) if source.dated else 0,
    )


def _traffic(source: Source, period: Period) -> Traffic:
    (seen,) = counts([source.keys], "created_at", period)
    pending = counts_in_one_pass(source.keys.unfinished(), "created_at", period)
    # Keys go on completing between the two statements.
    executed = tuple(max(all_ - rest, 0) for all_, rest in zip(seen, pending, strict=True))
    uses = _dated_uses(source, period) if source.dated else _tallied_uses(source, period)
    return Traffic({Outcome.EXECUTED: executed} | uses)


def _dated_uses(source: Source, period: Period) -> dict[Outcome, tuple[int, ...]]:
    of_kinds = [source.events.filter(kind=kind.value) for kind in _COUNTERS]
    return dict(zip(_COUNTERS, counts(of_kinds, "at", period), strict=True))


def _tallied_uses(source: Source, period: Period) -> dict[Outcome, tuple[int, ...]]:
    """Without events: every use of a key at the time the key was first seen."""
    found = {
        row["bar"]: row
        for row in within(source.tallies, "key__created_at", period.start, period.end)
        .values(bar=bar_number("key__created_at", period))
        .annotate(**{counter: Sum(counter) for counter in _COUNTERS.values()})
    }
    nothing = dict.fromkeys(_COUNTERS.values(), 0)
    rows = [found.get(bar, nothing) for bar in range(len(period.bars))]
    return {kind: tuple(row[counter] for row in rows) for kind, counter in _COUNTERS.items()}


def _uses_since(source: Source, start: datetime) -> dict[Outcome, int]:
    if source.dated:
        rows = within(source.events, "at", start, None).filter(kind__in=list(_COUNTERS))
        found = dict(rows.values("kind").annotate(rows=Count("*")).values_list("kind", "rows"))
        return {kind: found.get(kind.value, 0) for kind in _COUNTERS}
    rows = within(source.tallies, "key__created_at", start, None)
    sums = rows.aggregate(**{counter: Sum(counter) for counter in _COUNTERS.values()})
    return {kind: sums[counter] or 0 for kind, counter in _COUNTERS.items()}


def _overused_keys(source: Source) -> int:
    overused = Q()
    for counter in _COUNTERS.values():
        overused |= Q(**{f"{counter}__gt": EVENTS_PER_KIND})
    return source.tallies.filter(overused).count()


def _spark(source: Source, now: datetime) -> tuple[Day, ...]:
    """New keys and conflicts a day. Past days stand still, so they are counted once an hour."""
    local = now.astimezone(timezone.get_current_timezone())
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = tuple(midnight - timedelta(days=ago) for ago in range(_SPARK_DAYS - 1, -1, -1))
    today = _days(source, (midnight, midnight + timedelta(days=1)))
    if source.whole and source.dated:
        hour = local.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return _past_days(source.keys.db, edges, hour) + today
    return _days(source, edges) + today


@lru_cache(maxsize=_PAST_DAYS_KEPT)
def _past_days(alias: str, edges: tuple[datetime, ...], hour: datetime) -> tuple[Day, ...]:
    return _days(Source.of(IdempotencyKey.objects.using(alias)), edges)


def _days(source: Source, edges: tuple[datetime, ...]) -> tuple[Day, ...]:
    period = Period(name="days", edges=edges, by_hour=False)
    (keys,) = counts([source.keys], "created_at", period)
    uses = _dated_conflicts if source.dated else _tallied_conflicts
    return tuple(Day(*bar) for bar in zip(edges[:-1], keys, uses(source, period), strict=True))


def _dated_conflicts(source: Source, period: Period) -> tuple[int, ...]:
    return counts([source.events.filter(kind=Outcome.CONFLICT.value)], "at", period)[0]


def _tallied_conflicts(source: Source, period: Period) -> tuple[int, ...]:
    return _tallied_uses(source, period)[Outcome.CONFLICT]
