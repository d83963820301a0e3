"""Charts as inline SVG: values in, safe markup out.

Horizontal places are percentages and vertical ones pixels, so a chart fits any column and
its text keeps its size. Colours are classes of the style sheet: neither a style attribute
nor a script, and so nothing that a Content-Security-Policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

__all__ = ["Scale", "Series", "bar", "linear_scale", "lines", "log_scale", "spark", "stacked_bars"]

PLOT = 190  # pixels from the top line of the scale to its base
_ABOVE = 10  # pixels for the upper half of the topmost label
_BELOW = 24  # pixels for the labels of the bars
_DIGIT = 7  # pixels, the width of one character of an axis label, generously
_SPARK = 34  # pixels
_STEPS = 5  # of a scale, at most
_HAIRLINE = 1.5  # pixels, so that one of a thousand is still seen


@dataclass(frozen=True, slots=True)
class Series:
    """What one colour stands for; None: nothing to show in that place."""

    css: str  # class of its marks
    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values stand on the vertical axis."""

    ticks: tuple[tuple[float, str], ...]  # (share of the height from the base, label)
    place: Callable[[float], float]  # value -> share of the height, 0 to 1


def linear_scale(most: float, spell: Callable[[int], str] = str) -> Scale:
    """From 0 to a round number not below ``most``, in whole steps."""
    rough = max(most, 1) / _STEPS
    magnitude = 10 ** max(math.floor(math.log10(rough)), 0)
    step = next(n * magnitude for n in (1, 2, 5, 10) if n * magnitude >= rough)
    count = max(math.ceil(most / step), 1)
    top = step * count
    ticks = tuple((n / count, spell(n * step)) for n in range(count + 1))
    return Scale(ticks, lambda value: min(max(value / top, 0), 1))


def log_scale(marks: Sequence[tuple[float, str]], least: float, most: float) -> Scale:
    """The part of ``marks``, (value, label) ascending, that encloses the values."""
    first = max((n for n, (value, _) in enumerate(marks[:-1]) if value <= least), default=0)
    last = next((n for n, (value, _) in enumerate(marks) if value >= most), len(marks) - 1)
    shown = marks[first : max(last, first + 1) + 1]
    low, high = (math.log(value) for value, _label in (shown[0], shown[-1]))

    def place(value: float) -> float:
        if value <= 0:
            return 0
        return min(max((math.log(value) - low) / (high - low), 0), 1)

    return Scale(tuple((place(value), label) for value, label in shown), place)


def stacked_bars(
    name: str,
    labels: Sequence[str],
    titles: Sequence[str],
    series: Sequence[Series],
    scale: Scale,
    *,
    most_labels: int = 14,
) -> SafeString:
    """One bar for each label, its parts from the base up in the order of ``series``.

    ``titles`` are what a person reads who points at a bar; ``name`` is what one hears.
    """
    width = 100 / max(len(labels), 1)  # per cent
    columns = []
    for number, title in enumerate(titles):
        values = [entry.values[number] or 0 for entry in series]
        parts = _stack([entry.css for entry in series], values, scale, number * width, width)
        columns.append(_column(number * width, width, title, parts))
    return _frame(name, _joined(columns), labels, scale, most_labels)


def lines(
    name: str,
    labels: Sequence[str],
    titles: Sequence[str],
    series: Sequence[Series],
    scale: Scale,
    *,
    most_labels: int = 7,
) -> SafeString:
    """A line for each series, broken where it has no value."""
    width = 100 / max(len(labels), 1)
    marks: list[SafeString] = []
    for entry in series:
        points = [
            None if value is None else ((number + 0.5) * width, _height(scale, value))
            for number, value in enumerate(entry.values)
        ]
        marks.extend(
            _line(entry.css, *a, *b) for a, b in pairwise(points) if a is not None and b is not None
        )
        marks.extend(_dot(entry.css, *point) for point in points if point is not None)
    columns = [
        _column(number * width, width, title, SafeString("")) for number, title in enumerate(titles)
    ]
    plot = _joined([*marks, *columns])
    return _frame(name, plot, labels, scale, most_labels)


def spark(name: str, series: Sequence[Series]) -> SafeString:
    """Bars without axes, for a tile."""
    count = max((len(entry.values) for entry in series), default=0)
    columns = [[entry.values[number] or 0 for entry in series] for number in range(count)]
    most = max(map(sum, columns), default=0) or 1
    scale = Scale((), lambda value: value / most)
    width = 100 / max(count, 1)
    css = [entry.css for entry in series]
    bars = (
        _stack(css, values, scale, number * width, width, _SPARK, 0, gap=0.22)
        for number, values in enumerate(columns)
    )
    return format_html(
        '<svg class="idem-spark" width="100%" height="{}" role="img" aria-label="{}">{}</svg>',
        _SPARK,
        name,
        _joined(bars),
    )


def bar(share: float, css: str) -> SafeString:
    """A horizontal bar that fills ``share`` of its track. Decoration: the number stands by it."""
    return format_html(
        '<svg class="idem-bar" width="100%" height="8" aria-hidden="true">'
        '<rect class="idem-track" width="100%" height="8" rx="4"/>'
        '<rect class="{}" width="{}%" height="8" rx="4"/></svg>',
        css,
        f"{100 * min(max(share, 0), 1):.1f}",
    )


def _joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def _frame(
    name: str, plot: SafeString, labels: Sequence[str], scale: Scale, most_labels: int
) -> SafeString:
    """The axis beside the plot: two pictures, of which one has a name."""
    axis_width = max((len(label) for _share, label in scale.ticks), default=0) * _DIGIT + 6
    height = _ABOVE + PLOT + _BELOW
    heights = [(_ABOVE + PLOT * (1 - share), label) for share, label in scale.ticks]
    axis = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="end">{}</text>',
        ((axis_width - 6, f"{y + 4:.1f}", label) for y, label in heights),
    )
    grid = format_html_join(
        "",
        '<line class="idem-grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>',
        ((f"{y:.1f}",) for y, _label in heights),
    )
    return format_html(
        '<div class="idem-chart"><svg class="idem-axis" width="{}" height="{}" aria-hidden="true">'
        '{}</svg><svg class="idem-plot" width="100%" height="{}" role="img" aria-label="{}">'
        "{}{}{}</svg></div>",
        axis_width,
        height,
        axis,
        height,
        name,
        grid,
        plot,
        _labels(labels, most_labels),
    )


def _labels(labels: Sequence[str], most: int) -> SafeString:
    """As many as fit; every other one gives way on a narrow screen."""
    every = math.ceil(len(labels) / most) or 1
    width = 100 / max(len(labels), 1)
    shown = [(number, label) for number, label in enumerate(labels) if number % every == 0]
    return format_html_join(
        "",
        '<text class="idem-label{}" x="{}%" y="{}" text-anchor="middle">{}</text>',
        (
            (" idem-minor" if place % 2 else "", f"{(number + 0.5) * width:.2f}", y, label)
            for y in (_ABOVE + PLOT + 17,)
            for place, (number, label) in enumerate(shown)
        ),
    )


def _column(left: float, width: float, title: str, parts: SafeString) -> SafeString:
    """What reacts to the pointer: the whole height, so that small bars can be hit."""
    return format_html(
        '<g class="idem-col"><title>{}</title>'
        '<rect class="idem-hit" x="{}%" y="{}" width="{}%" height="{}"/>{}</g>',
        title,
        f"{left:.2f}",
        _ABOVE,
        f"{width:.2f}",
        PLOT,
        parts,
    )


def _stack(
    css: Sequence[str],
    values: Sequence[float],
    scale: Scale,
    left: float,
    width: float,
    height: float = PLOT,
    above: float = _ABOVE,
    *,
    gap: float = 0.3,  # share of the width that stays free
) -> SafeString:
    rects = []
    top = above + height
    for name, value in zip(css, values, strict=True):
        if value <= 0:
            continue
        part = max(height * scale.place(value), _HAIRLINE)
        top = max(top - part, 0)
        rects.append((name, left + width * gap / 2, top, width * (1 - gap), part))
    return format_html_join(
        "",
        '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}"/>',
        ((name, *(f"{number:.2f}" for number in numbers)) for name, *numbers in rects),
    )


def _height(scale: Scale, value: float) -> float:
    return _ABOVE + PLOT * (1 - scale.place(value))


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> SafeString:
    places = (f"{number:.2f}" for number in (x1, y1, x2, y2))
    return format_html('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>', css, *places)


def _dot(css: str, x: float, y: float) -> SafeString:
    return format_html('<circle class="{}" cx="{}%" cy="{}" r="3"/>', css, f"{x:.2f}", f"{y:.2f}")
