"""Any query string gives a period that can be counted, in the viewer's time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_idempotency.admin.period import LONGEST, Period, parse_period

NOW = datetime(2026, 11, 24, 15, 20, 30, tzinfo=UTC)


def parsed(**asked: str) -> Period:
    return parse_period(asked, NOW)


def test_a_day_is_the_last_24_hours_cut_at_full_hours() -> None:
    """To the second, so that it says what the tiles above the list say."""
    period = parsed(period="24h")

    assert (period.start, period.end) == (NOW - timedelta(days=1), NOW)
    assert period.edges[1] == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert len(period.bars) == 25


@pytest.mark.parametrize(("name", "days"), [("7d", 7), ("14d", 14)])
def test_weeks_are_whole_days_up_to_now(name: str, days: int) -> None:
    period = parsed(period=name)

    assert len(period.bars) == days
    assert period.start == datetime(2026, 11, 25 - days, tzinfo=UTC)
    assert (period.end, period.by_hour) == (NOW, False)


def test_days_are_the_viewers() -> None:
    """A bar from midnight to midnight where the viewer is, also when the clocks change."""
    with timezone.override("Europe/Berlin"):
        period = parsed(**{"from": "2026-10-24", "to": "2026-10-26"})

    assert [(end - start) / timedelta(hours=1) for start, end in _in_utc(period)] == [24, 25, 24]
    assert period.start == datetime(2026, 10, 23, 22, tzinfo=UTC)


def _in_utc(period: Period) -> list[tuple[datetime, datetime]]:
    return [(a.astimezone(UTC), b.astimezone(UTC)) for a, b in period.bars]


def test_the_hour_that_comes_twice_has_two_bars() -> None:
    """Its requests would otherwise stand in one bar, twice as high."""
    with timezone.override("Europe/Berlin"):
        period = parsed(**{"from": "2026-10-25", "to": "2026-10-25"})

    assert len(period.bars) == 25
    assert {end - start for start, end in _in_utc(period)} == {timedelta(hours=1)}


def test_a_day_may_begin_at_one_o_clock() -> None:
    """Where the clocks skip midnight; an edge that never was would be printed as another day."""
    with timezone.override("America/Santiago"):
        period = parsed(**{"from": "2026-09-05", "to": "2026-09-07"})

    assert [edge.strftime("%d %H:%M") for edge in period.edges[:3]] == [
        "05 00:00",
        "06 01:00",
        "07 00:00",
    ]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ({"from": "2026-11-01", "to": "2026-11-03"}, "2026-11-01", "2026-11-03"),
        ({"from": "2026-11-03", "to": "2026-11-01"}, "2026-11-01", "2026-11-03"),  # backwards
        ({"from": "2026-11-20", "to": "9999-12-31"}, "2026-11-20", "2026-11-24"),
        ({"from": "9999-12-31", "to": "9999-12-31"}, "2026-11-24", "2026-11-24"),
        ({"from": "0001-01-01", "to": "2026-11-24"}, "2026-08-27", "2026-11-24"),  # too long
        ({"from": "0001-01-01", "to": "0001-01-01"}, "2000-01-01", "2000-01-01"),
        ({"from": "2026-11-20"}, "2026-11-20", "2026-11-20"),
        ({"period": "custom", "to": "2026-11-20"}, "2026-11-20", "2026-11-20"),
    ],
)
def test_a_custom_period_is_clamped(asked: dict[str, str], first: str, last: str) -> None:
    """Turned round, cut at today, and no longer than the charts can show."""
    period = parsed(**asked)

    assert (period.name, period.understood) == ("custom", True)
    assert period.start.date() == date.fromisoformat(first)
    assert period.last_date == date.fromisoformat(last)
    assert len(period.bars) <= max(LONGEST, 48)


@pytest.mark.parametrize(
    "asked",
    [
        {"period": "1y"},
        {"period": "custom"},
        {"period": "custom", "from": "yesterday", "to": "2026-11-20"},
        {"from": "2026-02-30"},
        {"from": "\x00", "to": "<script>"},
        {"period": "", "from": "10000-01-01"},
    ],
)
def test_what_makes_no_sense_gives_two_weeks_and_says_so(asked: dict[str, str]) -> None:
    period = parsed(**asked)

    assert (period.name, len(period.bars), period.understood) == ("14d", 14, False)


def test_midnight_sharp_is_a_day_that_has_just_begun() -> None:
    """Not a bar without length."""
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    period = parse_period({"period": "7d"}, midnight)

    assert all(start < end for start, end in period.bars)


VALUES = (
    st.sampled_from(["24h", "7d", "custom", "2026-11-01"])
    | st.dates().map(str)
    | st.text("0129-T:Wx\x00\N{DEVANAGARI DIGIT ONE}", max_size=12)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(
    asked=st.dictionaries(st.sampled_from(["period", "from", "to"]), VALUES),
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"]),
)
def test_no_query_string_is_an_error(asked: dict[str, str], zone: str) -> None:
    """Edges ascend, and there are not too many."""
    with timezone.override(zone):
        period = parse_period(asked, NOW)

    utc = [edge.astimezone(UTC) for edge in period.edges]
    assert all(a < b for a, b in pairwise(utc))
    assert 2 <= len(utc) <= LONGEST + 1
