"""Links by date, made from the first and the last key only.

Django's own date hierarchy reads every row to leave out empty days; on a million keys that
takes longer than the rest of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet

__all__ = ["DateLink", "date_links"]

_FIELD = "created_at"
_DAYS_AT_ONCE = 31  # up to so many days are offered one by one


@dataclass(frozen=True, slots=True)
class DateLink:
    title: str
    link: str = ""  # "" = this is what is shown


def date_links(changes: ChangeList) -> dict[str, Any]:
    """The context of ``admin/date_hierarchy.html``: ``show``, ``back``, …."""
    spanned = _span(changes.root_queryset)
    if spanned is None:
        return {"show": False}
    links = _Links(changes, *spanned)
    return {
        "show": True,
        "field_name": _("first seen"),
        "back": links.back(),
        "choices": list(links.choices()),
    }


def _span(keys: QuerySet[Any]) -> tuple[date, date] | None:
    """The days of the first and the last key: the two ends of an index."""
    times = keys.values_list(_FIELD, flat=True)
    first, last = times.order_by(_FIELD).first(), times.order_by(f"-{_FIELD}").first()
    if first is None or last is None:
        return None
    return _local(first), _local(last)


def _local(moment: Any) -> date:
    return (timezone.localtime(moment) if timezone.is_aware(moment) else moment).date()


class _Links:
    def __init__(self, changes: ChangeList, first: date, last: date) -> None:
        self.changes = changes
        self.first, self.last = first, last
        self.year, self.month, self.day = (self._chosen(part) for part in ("year", "month", "day"))

    def _chosen(self, part: str) -> int | None:
        value = self.changes.params.get(f"{_FIELD}__{part}", "")
        return int(value) if value.isdecimal() and value.isascii() and len(value) < 5 else None

    def _to(self, **parts: int) -> str:
        new = {f"{_FIELD}__{name}": value for name, value in parts.items()}
        return self.changes.get_query_string(new, [f"{_FIELD}__"])

    def back(self) -> DateLink | None:
        if self.year and self.month and self.day and not self._is_short():
            title = date_format(date(self.year, self.month, 1), "YEAR_MONTH_FORMAT")
            return DateLink(title, self._to(year=self.year, month=self.month))
        if self.year and self.month and not self._is_short():
            return DateLink(str(self.year), self._to(year=self.year))
        if self.year:
            return DateLink(_("All dates"), self._to())
        return None

    def choices(self) -> Iterator[DateLink]:
        """The days of a month, the months of a year, or the years; fewer if they suffice."""
        if self.year and self.month and self.day:
            yield DateLink(date_format(self._begin(), "MONTH_DAY_FORMAT"))
        elif self.year and self.month:
            yield from self._days(self._begin(), self._begin() + timedelta(days=31))
        elif self._is_short():
            yield from self._days(self.first, self.last)
        elif self.year or self.first.year == self.last.year:
            yield from self._months(self.year or self.first.year)
        else:
            for year in range(self.first.year, self.last.year + 1):
                yield DateLink(str(year), self._to(year=year))

    def _is_short(self) -> bool:
        return (self.last - self.first).days < _DAYS_AT_ONCE

    def _begin(self) -> date:
        """The first day that is shown; the list has refused what is no date."""
        return date(self.year or 1, self.month or 1, self.day or 1)

    def _days(self, first: date, last: date) -> Iterator[DateLink]:
        day = max(first, self.first)
        while day <= min(last, self.last):
            if self.month in {None, day.month}:
                title = date_format(day, "MONTH_DAY_FORMAT")
                yield DateLink(title, self._to(year=day.year, month=day.month, day=day.day))
            day += timedelta(days=1)

    def _months(self, year: int) -> Iterator[DateLink]:
        for month in range(1, 13):
            begin = date(year, month, 1)
            if self.first.replace(day=1) <= begin <= self.last:
                title = date_format(begin, "YEAR_MONTH_FORMAT")
                yield DateLink(title, self._to(year=year, month=month))
