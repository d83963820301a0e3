"""The figures of the admin say what the tables hold."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_idempotency.admin import ages, conflicts, estimates, reports
from django_idempotency.admin.period import parse_period
from django_idempotency.admin.reports import Overview, Source, overview, tiles
from django_idempotency.models import IdempotencyKey, KeyTally
from django_idempotency.protocol import Outcome
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db

# In the middle of a day, so that "three hours ago" is today.
NOW = datetime.now(UTC).replace(hour=12, minute=30, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    reports._past_days.cache_clear()
    yield
    reports._past_days.cache_clear()


def everything() -> Source:
    return Source.of(IdempotencyKey.objects.all())


def seen(source: Source | None = None, **asked: str) -> Overview:
    period = parse_period(asked or {"period": "14d"}, NOW)
    return overview(source or everything(), period)


def key(ago: timedelta = timedelta(hours=3), **values: Any) -> IdempotencyKey:
    made = IdempotencyKeyFactory(created_at=NOW - ago, **{"completed": True, **values})
    assert isinstance(made, IdempotencyKey)
    return made


def used(key: IdempotencyKey, kind: str, after: timedelta, **values: Any) -> None:
    KeyEventFactory(key=key, kind=kind, at=key.created_at + after, **values)


def test_each_request_stands_in_the_bar_of_its_time() -> None:
    """First executions by the key's first sight, later uses by their own."""
    old = key(timedelta(days=2))
    key(timedelta(hours=3))
    key(completed=False)  # not an outcome yet
    key(timedelta(days=40))
    for kind in ("replayed", "in_flight", "conflict", "failed"):
        used(old, kind, timedelta(days=1))
    used(old, "replayed", timedelta(seconds=1))

    bars = seen().traffic.bars

    assert bars[Outcome.EXECUTED][-3:] == (1, 0, 1)
    assert bars[Outcome.REPLAYED][-3:] == (1, 1, 0)
    for outcome in (Outcome.IN_FLIGHT, Outcome.CONFLICT, Outcome.FAILED):
        assert bars[outcome][-3:] == (0, 1, 0)
    assert {len(values) for values in bars.values()} == {14}
    assert seen().traffic.total == 7


def test_bars_are_the_viewers_days() -> None:
    """One moment, two dates."""
    moment = datetime(2026, 11, 10, 17, 45, tzinfo=UTC)
    IdempotencyKeyFactory(created_at=moment, completed=True)
    found = {}
    for zone in ("Asia/Kathmandu", "Pacific/Kiritimati"):
        with timezone.override(zone):
            period = parse_period(
                {"from": "2026-11-09", "to": "2026-11-12"}, NOW.replace(year=2027)
            )
            bars = overview(everything(), period).traffic.bars[Outcome.EXECUTED]
            found[zone] = period.bars[bars.index(1)][0].day
    assert found == {"Asia/Kathmandu": 10, "Pacific/Kiritimati": 11}


def test_ages_are_percentiles_of_the_time_since_first_sight() -> None:
    """The nearest rank: half of the replays are not older than the median."""
    for number in range(1, 21):
        used(key(timedelta(hours=5)), "replayed", timedelta(seconds=number))
    used(key(timedelta(days=3)), "replayed", timedelta(minutes=10))

    found = seen().ages

    assert found.median == timedelta(seconds=11)
    assert found.p95 == timedelta(seconds=20)
    assert (found.medians[-1], found.p95s[-1]) == (timedelta(seconds=10), timedelta(seconds=19))
    assert found.medians[-4] == timedelta(minutes=10)
    assert found.medians[0] is None
    assert not found.sampled


def test_many_replays_are_sampled_by_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate comes from the keys whose ids are small, and says that it is one."""
    monkeypatch.setattr(ages, "SAMPLE", 2)
    for number, byte in enumerate((0x10, 0xF0, 0xF1, 0xF2)):
        row = key(timedelta(hours=5), id=uuid.UUID(bytes=bytes([byte]) * 16))
        used(row, "replayed", timedelta(seconds=number + 1))

    found = seen().ages

    assert found.sampled
    assert found.median == found.p95 == timedelta(seconds=1)


@pytest.mark.parametrize("share", [0, 1e-9, 0.25, 0.5, 0.9999999, 1])
def test_a_sample_has_about_the_share_that_was_asked_for(share: float) -> None:
    """Never nothing, never an overflow."""
    below = estimates.below(share).int / (1 << 128)
    assert below == pytest.approx(max(share, 1 / 0x10000), abs=0.001)


def test_clients_and_endpoints_are_ranked_by_conflicts() -> None:
    """With the number of keys behind them, and the rest of the site left out."""
    worst = key(scope="user:7", route="refunds/")
    for _ in range(3):
        used(worst, "conflict", timedelta(minutes=1))
    used(key(scope="user:7"), "conflict", timedelta(minutes=1))
    used(key(scope="user:8"), "conflict", timedelta(minutes=2))
    used(key(scope="user:9"), "replayed", timedelta(minutes=2))

    leaders = seen().leaders

    assert [(c.name, c.conflicts, c.keys) for c in leaders.clients] == [
        ("user:7", 4, 2),
        ("user:8", 1, 1),
    ]
    assert [(e.name, e.conflicts, e.keys) for e in leaders.endpoints] == [
        ("refunds/", 3, 1),
        ("payments/", 2, 2),
    ]
    assert (leaders.conflicts, leaders.newest_only) == (5, False)


def test_rankings_of_very_many_conflicts_look_at_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And say so."""
    monkeypatch.setattr(conflicts, "NEWEST", 2)
    row = key(timedelta(hours=5))
    for minutes in range(4):
        used(row, "conflict", timedelta(minutes=minutes))

    leaders = seen().leaders

    assert (leaders.conflicts, leaders.newest_only) == (2, True)


def test_the_latest_conflicts_name_what_differed() -> None:
    """The newest first; a record from another hand is not trusted to be JSON."""
    row = key()
    changes = {"amount": "changed", "@path": "changed"}
    used(row, "conflict", timedelta(minutes=1), differences=json.dumps(changes), path="/x/")
    for minutes, text in ((2, "{"), (3, "[1]"), (4, "")):
        used(row, "conflict", timedelta(minutes=minutes), differences=text)

    latest = seen().latest

    assert [conflict.changed for conflict in latest] == [(), (), (), ("amount", "@path")]
    assert (latest[-1].key_id, latest[-1].key, latest[-1].path) == (row.pk, row.key, "/x/")


def test_bodies_are_not_read_for_a_report(django_assert_num_queries: Any) -> None:
    """A page of figures must not move megabytes of stored responses."""
    used(key(), "conflict", timedelta(minutes=1))

    with django_assert_num_queries(14) as queries:
        seen()

    for query in queries.captured_queries:
        assert "response_body" not in query["sql"]
        assert "request_record" not in query["sql"]


def test_without_events_the_tallies_are_counted(settings: Any) -> None:
    """Each use at the time its key was first seen; nobody knows how old replays were."""
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    row = key(timedelta(days=1), scope="user:7")
    KeyTally.objects.create(key=row, replay_count=5, conflict_count=2)

    found = seen()

    assert not found.dated
    assert found.traffic.bars[Outcome.REPLAYED][-2:] == (5, 0)
    assert found.traffic.bars[Outcome.EXECUTED][-2:] == (1, 0)
    assert [(c.name, c.conflicts, c.keys) for c in found.leaders.clients] == [("user:7", 2, 1)]
    assert found.ages.median is None


def test_keys_with_more_uses_than_events_are_reported() -> None:
    """The charts miss some of their uses."""
    KeyTally.objects.create(key=key(), replay_count=100)
    assert seen().overused_keys == 0
    KeyTally.objects.create(key=key(), in_flight_count=101)
    assert seen().overused_keys == 1


def test_only_keys_that_the_person_may_see_are_counted() -> None:
    """A site that narrows get_queryset() to a tenant narrows the figures with it."""
    for scope in ("user:7", "user:8"):
        row = key(scope=scope)
        used(row, "conflict", timedelta(minutes=1))
        KeyTally.objects.create(key=row, replay_count=101, conflict_count=1)
    source = Source.of(IdempotencyKey.objects.filter(scope="user:7"))

    found = seen(source)

    assert found.traffic.total == 2
    assert [one.name for one in found.leaders.clients] == ["user:7"]
    assert [one.scope for one in found.latest] == ["user:7"]
    assert found.overused_keys == 1
    everybody, mine = tiles(everything(), NOW), tiles(source, NOW)
    assert (everybody.requests, mine.requests) == (4, 2)
    assert (everybody.days[-1].keys, mine.days[-1].keys) == (2, 1)


def test_past_days_of_others_are_not_remembered_for_all() -> None:
    """What is kept between pages was counted over all keys."""
    for scope in ("user:7", "user:8"):
        key(timedelta(days=1), scope=scope)
    tiles(everything(), NOW)

    mine = tiles(Source.of(IdempotencyKey.objects.filter(scope="user:7")), NOW)

    assert mine.days[-2].keys == 1


def test_tiles_count_the_last_24_hours() -> None:
    """And of unfinished keys, whether somebody probably works on them."""
    now = datetime.now(UTC)
    row = IdempotencyKeyFactory(completed=True, created_at=now - timedelta(hours=23))
    IdempotencyKeyFactory(completed=True, created_at=now - timedelta(hours=25))
    IdempotencyKeyFactory(created_at=now - timedelta(minutes=4))
    IdempotencyKeyFactory(created_at=now - timedelta(minutes=6))
    KeyEventFactory(key=row, kind="replayed", at=now - timedelta(hours=1))
    KeyEventFactory(key=row, kind="conflict", at=now - timedelta(hours=1), status=422)
    KeyEventFactory(key=row, kind="conflict", at=now - timedelta(hours=25), status=422)

    found = tiles(everything(), now)

    assert (found.requests, found.replayed, found.conflicts) == (3, 1, 1)
    assert (found.in_progress, found.unfinished) == (1, 1)


def test_tiles_and_overview_agree_on_the_day() -> None:
    """Whoever follows the tile must not find another number."""
    for hours in (1, 13, 23, 25):
        used(key(timedelta(hours=hours)), "replayed", timedelta(minutes=10))
    KeyTally.objects.create(key=key(), replay_count=1)

    assert tiles(everything(), NOW).requests == seen(period="24h").traffic.total == 7


def test_the_spark_has_a_bar_a_day() -> None:
    """New keys, and conflicts on top; today is the last."""
    used(key(timedelta(days=1)), "conflict", timedelta(minutes=1))
    key()

    days = tiles(everything(), NOW).days

    assert len(days) == 14
    assert [(day.keys, day.conflicts) for day in days[-3:]] == [(0, 0), (1, 1), (1, 0)]


def test_past_days_are_counted_once_an_hour(django_assert_max_num_queries: Any) -> None:
    """They stand still; today does not."""
    tiles(everything(), NOW)
    key(timedelta(days=1))
    key()

    with django_assert_max_num_queries(15):
        days = tiles(everything(), NOW).days
    later = tiles(everything(), NOW + timedelta(hours=1)).days

    assert [day.keys for day in days[-2:]] == [0, 1]
    assert [day.keys for day in later[-2:]] == [1, 1]


def test_reports_work_on_naive_times(settings: Any) -> None:
    """USE_TZ=False: the database holds the site's own time."""
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    naive = NOW.astimezone(timezone.get_default_timezone()).replace(tzinfo=None)
    row = IdempotencyKeyFactory(created_at=naive - timedelta(hours=2), completed=True)
    KeyEventFactory(key=row, kind="conflict", at=naive - timedelta(hours=1), status=422)

    found = seen(period="24h")

    assert found.traffic.bars[Outcome.EXECUTED][-3] == 1
    assert found.traffic.bars[Outcome.CONFLICT][-2] == 1
    assert tiles(everything(), NOW).requests == 2
