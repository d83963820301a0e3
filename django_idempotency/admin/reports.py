"""The figures of the admin: counted in SQL, handed out as plain values.

Made for tables of millions of rows. Keys and events are counted bar by bar, each a range
of an index that the database need not leave. Nothing counts all rows, however many they
are: the figures above the list stop at a bound, the overview estimates from a sample, and
both say so.
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
from .estimates import (
    SAMPLED,
    Bars,
    bars,
    below,
    estimate,
    estimates,
    one_pass,
    share_for,
)
from .period import Period, for_database, last_day
from .source import Source, bar_number, goes_beyond, newest, up_to, within
from .states import IN_PROGRESS_FOR, in_progress

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
_COUNTED = 50_000  # rows of a sort, above the list: as many keys as its filters look through
_SPARK_DAYS = 14
_SPARK_SAMPLED = 10_000  # rows: 3 % of a small picture's height, read with every list
_TALLIES_SUMMED = 10_000  # looked up key by key; of more, the database would read the table
_TALLIES_LOOKED_THROUGH = 200_000  # for those of the keys with very many uses, in no order
_PAST_DAYS_KEPT = 32  # results: databases and time zones of the people who look


@dataclass(frozen=True, slots=True)
class Day:
    """One bar of the spark line."""

    start: datetime
    keys: int  # first seen on it
    conflicts: int
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The last 24 hours, and two weeks in small."""

    requests: int
    replayed: int
    conflicts: int
    in_progress: int  # keys
    unfinished: int  # keys
    more: frozenset[str]  # names of the figures above that may be higher: counting stopped there
    days: tuple[Day, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Keyed requests by what became of them, bar by bar.

    An execution counts at the time its key was first seen.
    """

    bars: dict[Outcome, tuple[int, ...]]
    estimated: frozenset[Outcome] = frozenset()  # from a sample; the others are counted

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
    # Keys with more uses of a kind than there are events: charts lack some. None: not counted.
    overused_keys: int | None


def tiles(source: Source, now: datetime) -> Tiles:
    """The figures above the list of keys. Where there are more rows, the newest are counted."""
    start = last_day(now).start
    latest, cut = newest(source.keys, "created_at", start, _COUNTED)
    keys = latest.aggregate(seen=Count("pk"), executed=Count("completed_at"))
    running = latest.filter(in_progress()).count()
    uses, more_uses = _uses_since(source, start)
    more = {
        "requests": cut is not None or any(more_uses.values()),
        "replayed": more_uses[Outcome.REPLAYED],
        "conflicts": more_uses[Outcome.CONFLICT],
        "in_progress": cut is not None and cut >= for_database(now - IN_PROGRESS_FOR),
        "unfinished": cut is not None,
    }
    return Tiles(
        requests=keys["executed"] + sum(uses.values()),
        replayed=uses[Outcome.REPLAYED],
        conflicts=uses[Outcome.CONFLICT],
        in_progress=running,
        # Keys go on completing between the two statements.
        unfinished=max(keys["seen"] - keys["executed"] - running, 0),
        more=frozenset(name for name, stopped in more.items() if stopped),
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
    keys = source.keys.completed()
    if goes_beyond(source.keys, "created_at", period):
        (executed,) = estimates(keys, "created_at", "pk", period)
    else:
        executed = one_pass(keys, "created_at", period)
    uses = _dated_uses if source.dated else _tallied_uses
    found = {Outcome.EXECUTED: executed} | uses(source, period)
    return Traffic(
        {outcome: one.values for outcome, one in found.items()},
        frozenset(outcome for outcome, one in found.items() if one.estimated),
    )


def _dated_uses(source: Source, period: Period) -> dict[Outcome, Bars]:
    kinds = [kind.value for kind in _COUNTERS]
    return dict(zip(_COUNTERS, bars(source.events, "at", "key", period, kinds=kinds), strict=True))


def _tallied_uses(source: Source, period: Period, sampled: int = SAMPLED) -> dict[Outcome, Bars]:
    """Without events: every use of a key at the time the key was first seen."""
    many = goes_beyond(source.keys, "created_at", period)
    if many:
        share = share_for(source.tallies, "key", sampled)
        rows = source.tallies.filter(key__lt=below(share))
    else:
        share = 1
        rows = within(source.tallies, "key__created_at", period.start, period.end)
    found = {
        row["bar"]: row
        for row in rows.values(bar=bar_number("key__created_at", period)).annotate(
            **{counter: Sum(counter) for counter in _COUNTERS.values()}
        )
    }
    nothing = dict.fromkeys(_COUNTERS.values(), 0)
    sums = [found.get(bar, nothing) for bar in range(len(period.bars))]
    return {
        kind: Bars(
            tuple(estimate(row[counter], share) if many else row[counter] for row in sums), many
        )
        for kind, counter in _COUNTERS.items()
    }


def _uses_since(source: Source, start: datetime) -> tuple[dict[Outcome, int], dict[Outcome, bool]]:
    """How many of each kind, and whether there are more that were not counted."""
    if source.dated:
        recent = within(source.events, "at", start, None)
        found = {
            kind: up_to(_COUNTED + 1, recent.filter(kind=kind.value), "at") for kind in _COUNTERS
        }
        return (
            {kind: min(rows, _COUNTED) for kind, rows in found.items()},
            {kind: rows > _COUNTED for kind, rows in found.items()},
        )
    _latest, cut = newest(source.keys, "created_at", start, _TALLIES_SUMMED)
    rows = within(source.tallies, "key__created_at", start, None)
    if cut is not None:
        rows = rows.filter(key__created_at__gt=cut)
    sums = rows.aggregate(**{counter: Sum(counter) for counter in _COUNTERS.values()})
    return (
        {kind: sums[counter] or 0 for kind, counter in _COUNTERS.items()},
        dict.fromkeys(_COUNTERS, cut is not None),
    )


def _overused_keys(source: Source) -> int | None:
    if source.tallies[: _TALLIES_LOOKED_THROUGH + 1].count() > _TALLIES_LOOKED_THROUGH:
        return None
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
    (keys,) = bars(source.keys, "created_at", "pk", period, sampled=_SPARK_SAMPLED)
    conflicts = (_dated_conflicts if source.dated else _tallied_conflicts)(source, period)
    estimated = keys.estimated or conflicts.estimated
    columns = (edges[:-1], keys.values, conflicts.values)
    return tuple(Day(*bar, estimated) for bar in zip(*columns, strict=True))


def _dated_conflicts(source: Source, period: Period) -> Bars:
    conflicts = [Outcome.CONFLICT.value]
    (found,) = bars(source.events, "at", "key", period, sampled=_SPARK_SAMPLED, kinds=conflicts)
    return found


def _tallied_conflicts(source: Source, period: Period) -> Bars:
    return _tallied_uses(source, period, _SPARK_SAMPLED)[Outcome.CONFLICT]
