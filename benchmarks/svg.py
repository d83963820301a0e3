"""Plots as SVG: readable on a light and on a dark page, and by the colour-blind.

Colours are classes, so that one style sheet in the file can have two sets of them. The plot
brings its own ground, for nobody knows the page that it will stand on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

SERIES = 4
_STYLE = """<style>
.page{fill:#fff}.band{fill:#eee}text{fill:#222}.soft{fill:#666}.grid{stroke:#ddd}.mark{stroke:#000}
.s0{color:#d55e00}.s1{color:#b87d00}.s2{color:#0072b2}.s3{color:#008a63}
@media (prefers-color-scheme:dark){
.page{fill:#0d1117}.band{fill:#21262d}text{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#30363d}
.mark{stroke:#e6edf3}
.s0{color:#ff8c42}.s1{color:#f2c14e}.s2{color:#58a6ff}.s3{color:#3fd6a0}}
</style>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where values lie: from ``low`` at ``start`` to ``high`` at ``end``, in pixels."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def page(title: str, parts: Iterable[str], *, width: int, height: int) -> str:
    """The whole file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        _STYLE,
        f'<rect class="page" width="{width}" height="{height}"/>',
    )
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, *, anchor: str = "start", css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{kind}>{escape(content)}</text>"


def level(x: Scale, y: float, *, css: str = "grid") -> str:
    """A line across the plot; that of a mark is dashed."""
    dashes = ' stroke-dasharray="5 4"' if css == "mark" else ""
    return (
        f'<line class="{css}" x1="{x.start:g}" x2="{x.end:g}" y1="{y:.1f}" y2="{y:.1f}"{dashes}/>'
    )


def line(
    points: Iterable[tuple[float, float]], series: int, *, dots: bool = False
) -> Iterator[str]:
    """A line in the colour of its series, with a dot at each point if there are few."""
    places = [(f"{x:.1f}", f"{y:.1f}") for x, y in points]
    joined = " ".join(",".join(place) for place in places)
    yield (
        f'<polyline class="s{series}" points="{joined}" fill="none" stroke="currentColor" '
        'stroke-width="1.8"/>'
    )
    for x, y in places if dots else ():
        yield f'<circle class="s{series}" cx="{x}" cy="{y}" r="3.5" fill="currentColor"/>'


def legend(x: float, y: float, name: str, series: int) -> Iterator[str]:
    yield (
        f'<rect class="s{series}" x="{x:g}" y="{y - 9:g}" width="14" height="4" '
        'fill="currentColor"/>'
    )
    yield text(x + 20, y, name)
