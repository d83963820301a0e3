"""The verdicts at the end of a run: one line each, of what was proven and what was not.

They travel as properties of the tests' reports, because those come through from the processes of
pytest-xdist as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["LINE", "SUM", "lines"]

LINE, SUM = "verdict", "sum of verdicts"  # a text; (name, scenarios, fired, violations, two times)


def lines(reports: Iterable[Any]) -> Iterator[str]:
    sums: dict[str, list[Any]] = {}
    for report in reports:
        for kind, value in getattr(report, "user_properties", ()):
            if kind == LINE:
                yield value
            elif kind == SUM:
                _add(sums, *value)
    for name, (scenarios, fired, violations, slowest, seconds) in sums.items():
        yield (
            f"proof of {name}: {scenarios} scenarios, {fired} faults fired, {violations} "
            f"violations, usable again after {slowest:.2f} s at most, {seconds:.0f} s"
        )


def _add(sums: dict[str, list[Any]], name: str, *values: Any) -> None:
    *counts, slowest, seconds = values
    total = sums.setdefault(name, [0, 0, 0, 0.0, 0.0])
    total[:3] = [old + new for old, new in zip(total, counts, strict=False)]
    total[3:] = [max(total[3], slowest), total[4] + seconds]
