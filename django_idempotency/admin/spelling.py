"""Durations, ages and sizes as people read them, in the reader's language."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

__all__ = ["age", "duration", "exact", "offset", "size"]

_MOMENT = timedelta(seconds=60)  # below this, an age is "just now": the page is older than that
# Upper bound in ms, ms per unit, decimals, text. The first that fits is used.
_UNITS = (
    (1_000, 1, 0, "ms"),
    (10_000, 1_000, 2, "s"),
    (90_000, 1_000, 1, "s"),
    (90 * 60_000, 60_000, 0, "min"),
    (48 * 3_600_000, 3_600_000, 1, "h"),
    (None, 24 * 3_600_000, 1, "d"),
)


def duration(milliseconds: int) -> str:
    """``38 ms``, ``1.84 s``, ``21 min``, ``2.5 h``."""
    for bound, unit, decimals, name in _UNITS:
        if bound is None or milliseconds < bound:
            number = _rounded(milliseconds / unit, decimals)
            return _unit(name) % {"number": number}
    raise AssertionError  # the last unit has no bound


def _rounded(number: float, decimals: int) -> str:
    # Rounded here: number_format() cuts off, and 39.99 would be 39.9.
    return number_format(round(number, decimals), decimal_pos=decimals)


def _unit(name: str) -> str:
    return {
        "ms": _("%(number)s ms"),
        "s": _("%(number)s s"),
        "min": _("%(number)s min"),
        "h": _("%(number)s h"),
        "d": _("%(number)s d"),
    }[name]


def offset(span: timedelta) -> str:
    """How long after the beginning something happened: ``+2.40 s``."""
    sign = "\N{MINUS SIGN}" if span < timedelta(0) else "+"
    return sign + duration(round(abs(span).total_seconds() * 1000))


def age(moment: datetime, now: datetime) -> str:
    """``3 hours ago``, ``in 20 hours``, ``just now``."""
    distance = moment - now
    if abs(distance) < _MOMENT:
        return _("just now") if distance <= timedelta(0) else _("in a moment")
    if distance > timedelta(0):
        return _("in %(time)s") % {"time": timesince(now, moment, depth=1)}
    return _("%(time)s ago") % {"time": timesince(moment, now, depth=1)}


def exact(moment: datetime) -> str:
    """To the second, in the viewer's time zone, named."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return date_format(local, "Y-m-d H:i:s T").strip()


def size(count: int) -> str:
    """Bytes: ``812 bytes``, ``4.0 MiB``."""
    if count < 1024:
        return _("%(number)s bytes") % {"number": number_format(count)}
    if count < 1024 * 1024:
        return _("%(number)s KiB") % {"number": _rounded(count / 1024, 1)}
    return _("%(number)s MiB") % {"number": _rounded(count / 1024 / 1024, 1)}
