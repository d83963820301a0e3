"""Durations, ages and sizes in as few characters as people need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import translation

from django_idempotency.admin.spelling import age, duration, exact, offset, size

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        *((0, "0 ms"), (999, "999 ms"), (1_000, "1.00 s"), (1_840, "1.84 s"), (39_988, "40.0 s")),
        *((89_999, "90.0 s"), (90_000, "2 min"), (21 * 60_000, "21 min")),
        *((2 * 3_600_000, "2.0 h"), (72 * 3_600_000, "3.0 d")),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(milliseconds: int, text: str) -> None:
    """Rounded, not cut off."""
    assert duration(milliseconds) == text


def test_an_offset_has_a_sign() -> None:
    """Events of an earlier life of a key come before it."""
    assert offset(timedelta(seconds=2.4)) == "+2.40 s"
    assert offset(-timedelta(days=2)) == "\N{MINUS SIGN}2.0 d"


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(0), "just now"),
        (-timedelta(seconds=59), "just now"),
        (timedelta(seconds=5), "in a moment"),
        (-timedelta(hours=3, minutes=59), "3 hours ago"),
        (timedelta(hours=20, minutes=5), "in 20 hours"),
    ],
)
def test_an_age_is_told_in_one_unit(distance: timedelta, text: str) -> None:
    """In the past or to come."""
    assert age(NOW + distance, NOW).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (4 * 1024 * 1024, "4.0 MiB")],
)
def test_sizes_are_binary(count: int, text: str) -> None:
    """As MAX_RESPONSE_BYTES is."""
    assert size(count) == text


def test_numbers_are_spelled_as_the_reader_does() -> None:
    """With a comma in German."""
    with translation.override("de"):
        assert duration(1_840) == "1,84 s"


def test_times_name_their_zone() -> None:
    """A customer elsewhere means another hour."""
    assert exact(NOW) == "2026-03-09 12:00:00 UTC"
    assert exact(NOW.replace(tzinfo=None)).startswith("2026-03-09 12:00:00")
