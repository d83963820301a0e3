"""The span of time that a report covers, cut into the bars of its charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.conf import settings
from django.utils import timezone

__all__ = ["DAY", "LONGEST", "Period", "for_database", "last_day", "parse_period"]

DAY = "24h"
_DAYS = {"7d": 7, "14d": 14}
_USUAL = "14d"
LONGEST = 90  # days of a custom period: more bars than that nobody can tell apart
_BY_THE_HOUR = 2  # days up to which a custom period has a bar an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Bar number i covers ``edges[i] <= at < edges[i + 1]``; the viewer's days or hours.

    A first and a last bar may be shorter than the others.
    """

    name: str  # "24h", "7d", "14d" or "custom"
    edges: tuple[datetime, ...]  # ascending, in the viewer's time zone; at least two
    by_hour: bool
    understood: bool = True  # False: the asked-for period made no sense, this one is the usual

    @property
    def start(self) -> datetime:
        return self.edges[0]

    @property
    def end(self) -> datetime:
        return self.edges[-1]

    @property
    def bars(self) -> tuple[tuple[datetime, datetime], ...]:
        return tuple(zip(self.edges, self.edges[1:], strict=False))

    @property
    def last_date(self) -> date:
        """The last day that the period touches."""
        return (self.end - timedelta(microseconds=1)).date()


def last_day(now: datetime) -> Period:
    """The 24 hours up to ``now``, to the second, cut at full hours of the viewer's clock."""
    now = now.astimezone(timezone.get_current_timezone())
    start = now - timedelta(days=1)
    return Period(name=DAY, edges=(start, *_full_hours(start, now), now), by_hour=True)


def parse_period(asked: Mapping[str, str], now: datetime) -> Period:
    """The period that a query string names: ``period=7d``, or ``from=`` and ``to=`` a date.

    Never fails: a custom period is turned round where it runs backwards, ends today at the
    latest and is no longer than ``LONGEST`` days; anything else gives the usual two weeks.
    """
    zone = timezone.get_current_timezone()
    today = now.astimezone(zone).date()
    name = asked.get("period", "custom" if asked.get("from") or asked.get("to") else _USUAL)
    if name == DAY:
        return last_day(now)
    if name in _DAYS:
        return _days(name, today - timedelta(days=_DAYS[name] - 1), today, now)
    dates = [_date(asked.get(end, "")) for end in ("from", "to")]
    given = [min(value, today) for value in dates if value is not None]
    if name != "custom" or not given or _garbled(asked, dates):
        start = today - timedelta(days=_DAYS[_USUAL] - 1)
        return _days(_USUAL, start, today, now, understood=False)
    last = max(given)
    first = max(min(given), last - timedelta(days=LONGEST - 1))
    return _days("custom", first, last, now)


def _garbled(asked: Mapping[str, str], dates: list[date | None]) -> bool:
    """Whether an end of the period was given and is not a date."""
    given = (asked.get("from", ""), asked.get("to", ""))
    return any(text and value is None for text, value in zip(given, dates, strict=True))


def _date(text: str) -> date | None:
    try:
        value = date.fromisoformat(text)
    except ValueError:
        return None
    # Before this library and before every clock; year 1 has moments that UTC cannot say.
    return max(value, date(2000, 1, 1))


def _days(name: str, first: date, last: date, now: datetime, *, understood: bool = True) -> Period:
    """From the start of the first day to the end of the last one, or to now."""
    zone = timezone.get_current_timezone()
    local = now.astimezone(zone)
    days = (last - first).days + 1
    by_hour = name == "custom" and days <= _BY_THE_HOUR
    midnights = [_midnight(first + timedelta(days=number), zone) for number in range(days)]
    end = min(_midnight(last + timedelta(days=1), zone), local)
    end = max(end, midnights[-1] + timedelta(seconds=1))  # at midnight sharp, today has no length
    edges = (midnights[0], *_full_hours(midnights[0], end), end) if by_hour else (*midnights, end)
    return Period(name=name, edges=edges, by_hour=by_hour, understood=understood)


def _midnight(day: date, zone: tzinfo) -> datetime:
    # By way of UTC, so that a midnight that a time zone skips becomes the moment it meant.
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC).astimezone(zone)


def _full_hours(start: datetime, end: datetime) -> list[datetime]:
    """Full hours of the clock on the wall, strictly between the two."""
    zone = start.tzinfo
    # Hours are added in UTC: on the wall, one is missing or comes twice when the clocks change.
    moment = start.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    hours = []
    while (moment := moment + timedelta(hours=1)) < end:
        hours.append(moment.astimezone(zone))
    return hours


def for_database(moment: datetime) -> datetime:
    """As the site stores times: aware, or naive in its time zone with USE_TZ=False."""
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
