"""What protection adds to a request, by how long the view works.

    python -m benchmarks.overhead            # prints a table
    python -m benchmarks.overhead --write    # also draws docs/images/overhead.svg

Besides its work each view makes the payment of the other benchmarks. Every round measures
every duration and variant once, on a private PostgreSQL that flushes to disk. The plot shows the
10 % quantiles: on a busy machine the median is mostly a queue for its processors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import svg
from benchmarks.report import quantile, say
from benchmarks.stage import database

if TYPE_CHECKING:
    from benchmarks.measure import Variant

WORK = (1, 5, 20, 100)  # ms
VIEWS = ("view", "APIView")
SHARES = {"10 %": 0.1, "50 %": 0.5}
Times = dict[tuple[str, int], float]  # ms on the wall, by variant and work
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "overhead.svg"


def measure(*, rounds: int, warmup: int) -> dict[str, Times]:
    """The quantiles of all variants, by their names."""
    from benchmarks.measure import Bench  # here: it has models, which need the setup

    found = {work: list(_variants(work)) for work in WORK}
    Bench(one for variants in found.values() for one in variants).time(rounds=rounds, warmup=warmup)
    return {
        name: {
            (variant.name, work): quantile(variant.wall, share) / 1000
            for work, variants in found.items()
            for variant in variants
        }
        for name, share in SHARES.items()
    }


def _variants(work: int) -> Iterator[Variant]:
    from benchmarks.measure import Variant
    from benchmarks.views import working

    views = working(work / 1000)
    for name in VIEWS:
        bare, protected = views[f"{name}, bare"], views[f"{name}, protected"]
        yield Variant(f"{name}, bare", bare, "")
        yield Variant(f"{name}, first", protected, "", keyed=True)
        yield Variant(f"{name}, replay", protected, "", keyed=True, replays=True)


def table(found: Times) -> Iterator[str]:
    heads = ("work", "bare", "first", "added", "ratio", "replay", "ratio")
    widths = (6, 10, 10, 8, 7, 10, 7)
    yield " " * 10 + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    for name in VIEWS:
        for work in WORK:
            bare, first, replay = (
                found[f"{name}, {kind}", work] for kind in ("bare", "first", "replay")
            )
            yield (
                f"{name:10}{work:>6}{bare:>10.2f}{first:>10.2f}{first - bare:>8.2f}"
                f"{first / bare:>7.2f}{replay:>10.2f}{replay / bare:>7.2f}"
            )


# -- the picture

WIDTH, HEIGHT = 760, 380
X = svg.Scale(low=0.8, high=125, start=60, end=WIDTH - 20, logarithmic=True)  # ms of work
Y = svg.Scale(low=-0.15, high=2, start=HEIGHT - 48, end=60)  # times the bare view
SHOWN = tuple(f"{name}, {kind}" for kind in ("first", "replay") for name in VIEWS)


def draw(found: Times) -> str:
    """An SVG of ratios to the bare view."""
    title = "What protection costs, by how long the view works"
    return svg.page(title, _parts(found), width=WIDTH, height=HEIGHT)


def _parts(found: Times) -> Iterator[str]:
    for ratio in (0, 0.5, 1.5, 2):
        yield svg.level(X, Y(ratio))
        yield svg.text(X.start - 6, Y(ratio) + 4, f"{ratio:g}", anchor="end")
    yield svg.level(X, Y(1), css="mark")
    yield svg.text(X.start - 6, Y(1) + 4, "1", anchor="end")
    yield svg.text(X.end, Y(1) + 16, "the same view without a key", anchor="end", css="soft")
    for work in WORK:
        yield svg.text(X(work), Y.start + 18, f"{work} ms", anchor="middle")
    yield svg.text((X.start + X.end) / 2, HEIGHT - 8, "work of the view", anchor="middle")
    yield svg.text(X.end, 20, "time, in bare views", anchor="end", css="soft")
    for series, name in enumerate(SHOWN):
        bare = f"{name.partition(',')[0]}, bare"
        ratios = {work: found[name, work] / found[bare, work] for work in WORK}
        points = [(X(work), Y(ratio)) for work, ratio in ratios.items()]
        yield from svg.line(points, series, dots=True)
        words = name.replace("first", "first execution")
        yield from svg.legend(X.start + series % 2 * 200, 20 + series // 2 * 18, words, series)
        for work, (x, y) in zip(WORK, points, strict=True):
            if name.startswith("view"):
                above = -10 if name.endswith("first") else 18  # away from the other view's line
                yield svg.text(x, y + above, f"{ratios[work]:.2f}", anchor="middle")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--write", action="store_true", help=f"draw {PICTURE.name}")
    options = parser.parse_args()
    with database():
        found = measure(rounds=options.rounds, warmup=10)
    for name, times in found.items():
        say("", f"ms on the wall, {name} of {options.rounds} interleaved rounds", *table(times))
    if options.write:
        PICTURE.write_text(draw(found["10 %"]))


if __name__ == "__main__":
    main()
