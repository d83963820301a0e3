"""On large tables figures stop at a bound or are estimated, and say which; bounds are lowered."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from django_idempotency.admin import ages, conflicts, estimates, reports, source
from django_idempotency.admin.figures import short_estimate
from django_idempotency.admin.period import parse_period
from django_idempotency.admin.reports import Overview, Source, overview, tiles
from django_idempotency.models import IdempotencyKey, KeyTally
from django_idempotency.protocol import Outcome
from tests.admin.people import LIST, VIEW, page, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db

BOUND = 3
# Yesterday's: pages know the real time, and nothing may be in their future.
NOW = datetime.now(UTC).replace(hour=12, minute=30, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture(autouse=True)
def _low_bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(source, "BOUND", BOUND)
    monkeypatch.setattr(reports, "_COUNTED", BOUND)
    monkeypatch.setattr(estimates, "_SIZED_BY", 1)
    reports._past_days.cache_clear()
    yield
    reports._past_days.cache_clear()


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of all ids are the sample."""
    for module in (estimates, reports):
        monkeypatch.setattr(module, "share_for", lambda *_asked: 0.5)


def everything() -> Source:
    return Source.of(IdempotencyKey.objects.all())


def seen(**asked: str) -> Overview:
    return overview(everything(), parse_period(asked or {"period": "24h"}, NOW))


def keys(count: int, *, now: datetime = NOW, **values: Any) -> list[Any]:
    """A minute apart, the first an hour ago; their ids go from the first to the last there is."""
    values = {"completed": True, **values}
    return [
        IdempotencyKeyFactory(
            created_at=now - timedelta(hours=1, minutes=number),
            id=uuid.UUID(bytes=bytes([(2 * number + 1) * 128 // count]) + uuid.uuid4().bytes[1:]),
            **values,
        )
        for number in range(count)
    ]


def used(rows: list[Any], kind: str) -> None:
    for row in rows:
        KeyEventFactory(key=row, kind=kind, at=row.created_at + timedelta(seconds=1))


def test_up_to_the_bound_figures_are_exact() -> None:
    rows = keys(BOUND)
    used(rows, "replayed")

    found = tiles(everything(), NOW)

    assert (found.requests, found.replayed) == (2 * BOUND, BOUND)
    assert not found.more
    assert not seen().traffic.estimated


def test_tiles_count_the_newest_and_say_that_there_are_more() -> None:
    """Each kind stops by itself; a rare one is exact."""
    rows = keys(BOUND + 2)
    used(rows[: BOUND + 1], "replayed")
    used(rows[:1], "conflict")

    found = tiles(everything(), NOW)

    assert (found.requests, found.replayed, found.conflicts) == (BOUND + BOUND + 1, BOUND, 1)
    assert found.more == {"requests", "replayed", "unfinished"}


def test_a_bound_that_is_passed_by_uses_alone_is_told_too() -> None:
    (row,) = keys(1)
    used([row] * (BOUND + 1), "in_flight")

    found = tiles(everything(), NOW)

    assert (found.requests, *found.more) == (1 + BOUND, "requests")


def test_unfinished_keys_are_sought_among_the_newest() -> None:
    """An older one is left out, and the figure says that it may be higher."""
    now = datetime.now(UTC)
    keys(1, now=now + timedelta(minutes=30), completed=False)
    keys(BOUND - 1, now=now)
    IdempotencyKeyFactory(created_at=now - timedelta(hours=5))

    found = tiles(everything(), now)

    assert (found.unfinished, found.in_progress) == (1, 0)
    assert found.more == {"requests", "unfinished"}


def test_so_many_keys_that_not_all_of_five_minutes_are_looked_at() -> None:
    now = datetime.now(UTC)
    for seconds in range(BOUND + 1):
        IdempotencyKeyFactory(created_at=now - timedelta(seconds=10 + seconds))

    found = tiles(everything(), now)

    assert found.in_progress == BOUND
    assert "in_progress" in found.more


def test_without_events_the_tallies_of_the_newest_keys_are_summed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    monkeypatch.setattr(reports, "_TALLIES_SUMMED", 2)
    for row in keys(3):
        KeyTally.objects.create(key=row, replay_count=10)

    found = tiles(everything(), NOW)

    assert (found.requests, found.replayed) == (23, 20)
    assert found.more == {"requests", "replayed", "conflicts"}


@pytest.mark.usefixtures("half")
def test_the_overview_estimates_from_the_keys_with_small_ids() -> None:
    """What is too much to count; the rest is counted, bar by bar."""
    rows = keys(8)
    used(rows[:6], "replayed")
    used(rows[-2:], "conflict")

    traffic = seen().traffic

    assert traffic.estimated == {Outcome.EXECUTED, Outcome.REPLAYED}
    assert (traffic.of(Outcome.EXECUTED), traffic.of(Outcome.REPLAYED)) == (8, 8)
    assert traffic.of(Outcome.CONFLICT) == 2


@pytest.mark.usefixtures("half")
def test_a_sample_leaves_out_what_is_not_of_the_period() -> None:
    keys(8)
    keys(8, now=NOW - timedelta(days=3))

    assert sum(seen().traffic.bars[Outcome.EXECUTED]) == 8


@pytest.mark.usefixtures("half")
def test_without_events_the_tallies_of_a_sample_are_summed(settings: Any) -> None:
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    for row in keys(8):
        KeyTally.objects.create(key=row, replay_count=1)

    traffic = seen().traffic

    assert traffic.of(Outcome.REPLAYED) == traffic.of(Outcome.EXECUTED) == 8
    assert traffic.estimated == {*Outcome} & set(traffic.bars)


def test_ages_of_a_short_period_are_not_sought_among_all_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few of the table's events may be replays of the period, however many those are."""
    monkeypatch.setattr(ages, "SAMPLE", 4)
    monkeypatch.setattr(ages, "share_for", lambda *_asked: 1 / 8)
    for number, row in enumerate(keys(8), start=1):
        at = row.created_at + timedelta(seconds=number)
        KeyEventFactory(key=row, kind="replayed", at=at)

    assert seen().ages.p95 == timedelta(seconds=1)


def test_without_events_the_newest_keys_are_ranked(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the keys with conflicts are too many to look at; otherwise all are."""
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    monkeypatch.setattr(conflicts, "NEWEST_KEYS", 2)
    for row in keys(4):
        KeyTally.objects.create(key=row, conflict_count=1)
    overview_page = f"{LIST}overview/"

    assert (seen().leaders.conflicts, seen().leaders.newest_only) == (4, False)
    assert "are ranked by" not in page(signed_in(VIEW), overview_page)
    monkeypatch.setattr(conflicts, "NEWEST", 3)
    assert (seen().leaders.conflicts, seen().leaders.newest_only) == (2, True)
    assert "by the newest 10,000 keys" in page(signed_in(VIEW), overview_page)


@pytest.mark.usefixtures("half")
def test_the_spark_is_estimated_and_says_so() -> None:
    keys(8)
    keys(2, now=NOW - timedelta(days=1))

    days = tiles(everything(), NOW).days

    assert [(day.keys, day.estimated) for day in days[-2:]] == [(2, False), (8, True)]
    assert "14 days in charts, estimated" in page(signed_in(VIEW), LIST)


def test_a_sample_is_as_large_as_the_table_demands() -> None:
    """As a share of all keys, also of those that the viewer may not see."""
    keys(128, scope="user:8")
    mine = Source.of(IdempotencyKey.objects.filter(scope="user:7")).keys

    assert estimates.share_for(mine, "pk", 64) == pytest.approx(0.5, rel=0.2)
    assert estimates.share_for(mine, "pk", 10_000) == pytest.approx(1, rel=0.001)


@pytest.mark.parametrize(
    ("found", "share", "value"),
    [(0, 0.01, 0), (37, 0.01, 4_000), (1234, 0.01, 120_000), (12_345, 0.01, 1_230_000)],
)
def test_an_estimate_has_no_more_digits_than_it_knows(found: int, share: float, value: int) -> None:
    assert estimates.estimate(found, share) == value


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (8, "8"),
        (9_940, "9,940"),
        (12_345, "12.3 k"),
        (990_000, "990 k"),
        (6_960_000, "6.96 M"),
        (20_000_000, "20 M"),
    ],
)
def test_an_estimate_fits_its_tile(value: int, spelled: str) -> None:
    assert short_estimate(value).replace("\N{NO-BREAK SPACE}", " ") == f"≈ {spelled}"


def test_keys_with_very_many_uses_are_not_sought_in_a_large_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "_TALLIES_LOOKED_THROUGH", 1)
    for row in keys(2):
        KeyTally.objects.create(key=row, replay_count=101)

    assert seen().overused_keys is None
    assert "There are too many keys to say how many these are." in page(
        signed_in(VIEW), f"{LIST}overview/"
    )


@pytest.fixture
def busy() -> Client:
    """Who looks at more than the bound."""
    used(keys(BOUND + 1, now=datetime.now(UTC)), "replayed")
    return signed_in(VIEW)


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())  # also of spaces that do not break


def test_figures_of_the_list_have_a_plus_and_a_note(busy: Client) -> None:
    shown = text(page(busy, LIST))

    assert f"Keyed requests {2 * BOUND}+ last 24 hours" in shown
    assert f"Replays served {BOUND}+" in shown
    assert "Conflicts refused 0 same" in shown
    assert "Figures with + are at least that high" in shown


@pytest.mark.usefixtures("half")
def test_figures_of_the_overview_are_marked_everywhere(busy: Client) -> None:
    """Tiles, shares, tables and what a bar says to the pointer."""
    html = page(busy, f"{LIST}overview/")
    shown = text(html)

    assert "Keyed requests ≈ 8 ≈ 4 executed" in shown
    assert "≈ 50.0 %, not executed twice" in shown
    assert "Executed: ≈\N{NO-BREAK SPACE}" in html
    assert "Conflict: 0" in html
    assert "are estimated from some of the keys" in shown


@pytest.mark.parametrize("url", [LIST, f"{LIST}overview/"])
def test_small_pages_say_nothing_of_bounds(url: str) -> None:
    used(keys(1, now=datetime.now(UTC)), "replayed")
    shown = page(signed_in(VIEW), url)

    assert "+" not in shown.partition("idem-tiles")[2].partition("</ul>")[0]
    assert "≈" not in shown
    assert "estimated" not in shown
