"""The charts of the overview, each with the table that says the same in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils.formats import date_format, number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_idempotency.protocol import Outcome

from .charts import Scale, Series, linear_scale, lines, log_scale, stacked_bars
from .estimates import rounded
from .period import Period
from .reports import OUTCOMES, Overview
from .spelling import duration

__all__ = [
    "Figure",
    "about",
    "age",
    "age_figure",
    "conflict_figure",
    "estimated_number",
    "number",
    "percent",
    "short_estimate",
    "traffic_figure",
]

Speller = Callable[[float], str]

_FEW_LABELS = 7  # of a chart that has half the page
_MANY_LABELS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, what its colours mean, and its table."""

    title: str
    chart: SafeString
    legend: tuple[tuple[str, str], ...] = ()  # (class, meaning)
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]  # (bar, cells)
    note: str = ""


def outcome_names() -> dict[Outcome, str]:
    return {
        Outcome.EXECUTED: _("Executed"),
        Outcome.REPLAYED: _("Replayed"),
        Outcome.IN_FLIGHT: _("Refused in flight"),
        Outcome.CONFLICT: _("Conflict"),
        Outcome.FAILED: _("Failed, rolled back"),
    }


def traffic_figure(overview: Overview, period: Period) -> Figure:
    """Requests by outcome."""
    title, names = _("Keyed requests over time"), outcome_names()
    bars = overview.traffic.bars
    series = [Series(f"idem-c-{one.value}", names[one], bars[one]) for one in OUTCOMES]
    sums = [sum(column) for column in zip(*bars.values(), strict=True)]
    spell = [_speller(one in overview.traffic.estimated) for one in OUTCOMES]
    scale = linear_scale(max(sums), number)
    figure = _figure(title, series, period, scale, _MANY_LABELS, spell)
    note = ""
    if not overview.dated:
        note = _(
            'With AUDIT="counts" uses are counted and not dated: each stands where its key '
            "was first seen."
        )
    return Figure(
        title=title,
        chart=figure,
        legend=tuple((entry.css, entry.name) for entry in series),
        head=(_("From"), *(entry.name for entry in series), _("Together")),
        rows=_rows(
            period,
            [*(bars[one] for one in OUTCOMES), sums],
            [*spell, _speller(bool(overview.traffic.estimated))],
        ),
        note=note,
    )


def conflict_figure(overview: Overview, period: Period) -> Figure:
    """Refused reuses alone, which disappear among the rest."""
    title, values = _("Conflicts over time"), overview.traffic.bars[Outcome.CONFLICT]
    series = [Series("idem-c-conflict", _("Conflicts"), values)]
    spell = [_speller(Outcome.CONFLICT in overview.traffic.estimated)]
    scale = linear_scale(max(values), number)
    return Figure(
        title=title,
        chart=_figure(title, series, period, scale, _FEW_LABELS, spell),
        head=(_("From"), _("Conflicts")),
        rows=_rows(period, [values], spell),
    )


def age_figure(overview: Overview, period: Period) -> Figure | None:
    """Median and 95th percentile on a logarithmic scale; None where nothing was replayed."""
    ages, title = overview.ages, _("Age of replays")
    known = [_seconds(value) for value in (*ages.medians, *ages.p95s) if value is not None]
    if not known:
        return None
    series = [
        Series("idem-l-p95", _("95th percentile"), [_maybe_seconds(value) for value in ages.p95s]),
        Series("idem-l-median", _("Median"), [_maybe_seconds(value) for value in ages.medians]),
    ]
    cells = [(age(median), age(p95)) for median, p95 in zip(ages.medians, ages.p95s, strict=True)]
    titles = [
        _("%(when)s: median %(median)s, 95th percentile %(p95)s")
        % {"when": when, "median": median, "p95": p95}
        for when, (median, p95) in zip(_moments(period), cells, strict=True)
    ]
    scale = log_scale(_age_marks(), min(known), max(known))
    return Figure(
        title=title,
        chart=lines(title, _labels(period), titles, series, scale, most_labels=_FEW_LABELS),
        legend=tuple((entry.css, entry.name) for entry in reversed(series)),
        head=(_("From"), _("Median"), _("95th percentile")),
        rows=tuple(zip(_moments(period), cells, strict=True)),
        note=_("Estimated from the replays of some keys.") if ages.sampled else "",
    )


def age(span: timedelta | None) -> str:
    return "\N{EN DASH}" if span is None else duration(round(span.total_seconds() * 1000))


def number(value: float | Decimal) -> str:
    """With the separators of the reader's language, whatever the site's settings say."""
    return number_format(value, force_grouping=True)


def about(figure: str) -> str:
    """A figure that was not counted."""
    return _("\N{ALMOST EQUAL TO}\N{NO-BREAK SPACE}%(figure)s") % {"figure": figure}


def estimated_number(value: float) -> str:
    """In no more digits than an estimate has, also if it is a sum of estimates."""
    return about(number(rounded(value)))


def short_estimate(value: float) -> str:
    """The same in the width of a tile: 990 k, 6.96 M."""
    value = rounded(value)
    if value < 10_000:
        return estimated_number(value)
    if value < 1_000_000:
        unit, spelled = 1_000, _("%(number)s\N{NO-BREAK SPACE}k")
    else:
        unit, spelled = 1_000_000, _("%(number)s\N{NO-BREAK SPACE}M")
    return about(spelled % {"number": number(Decimal(value) / unit)})


def percent(part: int, whole: int) -> str:
    share = round(100 * part / whole, 1) if whole else 0  # number_format() does not round
    return _("%(number)s\N{NO-BREAK SPACE}%%") % {"number": number_format(share, decimal_pos=1)}


def _speller(estimated: bool) -> Speller:
    return estimated_number if estimated else number


def _figure(
    title: str,
    series: Sequence[Series],
    period: Period,
    scale: Scale,
    most_labels: int,
    spellers: Sequence[Speller],
) -> SafeString:
    columns = tuple(zip(series, spellers, strict=True))
    titles = [
        "\n".join([when, *(f"{one.name}: {spell(one.values[bar] or 0)}" for one, spell in columns)])
        for bar, when in enumerate(_moments(period))
    ]
    return stacked_bars(title, _labels(period), titles, series, scale, most_labels=most_labels)


def _rows(
    period: Period, columns: Sequence[Sequence[int]], spellers: Sequence[Speller]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    cells = (
        tuple(spell(value) for spell, value in zip(spellers, row, strict=True))
        for row in zip(*columns, strict=True)
    )
    return tuple(zip(_moments(period), cells, strict=True))


def _starts(period: Period) -> Iterable[datetime]:
    return (start for start, _end in period.bars)


def _labels(period: Period) -> list[str]:
    """Below the bars, short: ``14:00`` or ``24 Nov``."""
    style = "H:i" if period.by_hour else "j M"
    return [date_format(start, style) for start in _starts(period)]


def _moments(period: Period) -> list[str]:
    """Bars by their beginning, in full."""
    style = "DATETIME_FORMAT" if period.by_hour else "DATE_FORMAT"
    return [date_format(start, style) for start in _starts(period)]


def _age_marks() -> list[tuple[float, str]]:
    """(seconds, label) of the lines that an age may be read off."""
    units = (
        (0.001, _("%(number)s ms"), (1, 10, 100)),
        (1, _("%(number)s s"), (1, 10)),
        (60, _("%(number)s min"), (1, 10)),
        (3600, _("%(number)s h"), (1, 6)),
        (86400, _("%(number)s d"), (1, 7, 30, 365)),
    )
    return [
        (count * unit, text % {"number": number_format(count)})
        for unit, text, counts in units
        for count in counts
    ]


def _seconds(span: timedelta) -> float:
    return max(span.total_seconds(), 0.001)  # a logarithm has no zero


def _maybe_seconds(span: timedelta | None) -> float | None:
    return None if span is None else _seconds(span)
