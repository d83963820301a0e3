"""What retries do to a server that comes back: four ways to wait, one simulated restart.

    python -m benchmarks.retry_storm            # prints a table
    python -m benchmarks.retry_storm --write    # also draws docs/retry-storm.svg

Operations arrive at random. From second 10 the server hangs; at second 20 it restarts, which
cuts all connections at the same moment. Then it serves what its capacity allows and refuses the
rest with 503, and refusing costs work, too. Pauses and budget are the client's own code.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django_idempotency.client.budget import RetryBudget
from django_idempotency.client.policy import RetryPolicy

OUTAGE = (10.0, 20.0)  # seconds
END = 40.0
ARRIVALS = 80  # operations a second
CAPACITY = 120  # attempts a second
REFUSAL = 0.1  # what a 503 costs, in units of a served attempt
ROUND_TRIP = 0.02  # seconds
QUEUE = 30.0  # attempts that may wait to be served
CLEAN = 1.0  # seconds without a refusal: the storm is over

POLICY = RetryPolicy()

Pause = Callable[[int, random.Random], float]


def none(retry: int, rng: random.Random) -> float:
    return 0.0


def exponential(retry: int, rng: random.Random) -> float:
    return min(POLICY.cap, POLICY.base * 2.0**retry)


def jittered(retry: int, rng: random.Random) -> float:
    pause = POLICY.pause(retry, at_least=0.0, left=POLICY.deadline, rand=rng.random)
    assert pause is not None  # noqa: S101 - a whole deadline is left
    return pause


@dataclass(frozen=True, slots=True)
class Strategy:
    name: str
    pause: Pause
    budget: bool = False


STRATEGIES = (
    Strategy("no backoff", none),
    Strategy("exponential", exponential),
    Strategy("exponential + jitter", jittered),
    Strategy("exponential + jitter + budget", jittered, budget=True),
)


@dataclass(slots=True)
class Result:
    """What one strategy did to the server."""

    times: list[float] = field(default_factory=list)  # of every attempt
    operations: int = 0
    retries: int = 0
    refused: list[float] = field(default_factory=list)  # times of 503
    unknown: int = 0

    @property
    def peak(self) -> int:
        """Most attempts in one tenth of a second after the restart."""
        after = Counter(int(t / 0.1) for t in self.times if t >= OUTAGE[1])
        return max(after.values())

    @property
    def recovered(self) -> float:
        """Seconds from the restart to the last refusal of the storm."""
        last = OUTAGE[1]
        for moment in (moment for moment in self.refused if moment >= OUTAGE[1]):
            if moment - last > CLEAN:
                break
            last = moment
        return last - OUTAGE[1]


class Server:
    """Serves at its capacity, with a short queue. Refusing takes time from serving."""

    def __init__(self) -> None:
        self._then = 0.0
        self._free = QUEUE

    def serves(self, now: float) -> bool:
        self._free = min(QUEUE, self._free + (now - self._then) * CAPACITY)
        self._then = now
        served = self._free >= 1
        self._free -= 1 if served else REFUSAL
        return served


def simulate(strategy: Strategy, *, seed: int = 1) -> Result:
    """Run the restart with one strategy; the same seed brings the same operations."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    result, server = Result(), Server()
    budget = RetryBudget() if strategy.budget else None
    queue = [(moment, number, 0) for number, moment in enumerate(_arrivals(rng))]
    while queue:
        now, number, retry = heapq.heappop(queue)
        result.times.append(now)
        if retry == 0:
            result.operations += 1
            if budget is not None:
                budget.deposit()
        if OUTAGE[0] <= now < OUTAGE[1]:
            told = min(now + POLICY.timeout, OUTAGE[1])  # it hangs until the restart cuts it
        elif server.serves(now):
            continue
        else:
            result.refused.append(now)
            told = now + ROUND_TRIP
        if retry + 1 >= POLICY.attempts or (budget is not None and not budget.take()):
            result.unknown += 1
            continue
        result.retries += 1
        again = told + ROUND_TRIP + strategy.pause(retry, rng)
        heapq.heappush(queue, (again, number, retry + 1))
    return result


def _arrivals(rng: random.Random) -> Iterator[float]:
    now = rng.expovariate(ARRIVALS)
    while now < END:
        yield now
        now += rng.expovariate(ARRIVALS)


# -- the picture

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 44
COLOURS = ("#d55e00", "#e69f00", "#0072b2", "#009e73")  # told apart by the colour-blind, too
BIN = 0.25  # seconds
LOWEST, HIGHEST = 20, 20_000  # attempts a second; the scale is logarithmic
X_FROM, X_TO = 5.0, 35.0


def draw(results: dict[str, Result]) -> str:
    """An SVG of attempts a second."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img">',
        "<title>Attempts per second that reach a server which restarts</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<rect x="{_x(OUTAGE[0]):.1f}" y="{TOP}" width="{_x(OUTAGE[1]) - _x(OUTAGE[0]):.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}" fill="#eee"/>',
        _text(_x(15), TOP + 16, "the server hangs", anchor="middle", colour="#666"),
        *_axes(),
    ]
    for row, ((name, result), colour) in enumerate(zip(results.items(), COLOURS, strict=True)):
        parts.append(_line(result, colour))
        x, y = LEFT + row % 2 * 200, 20 + row // 2 * 18
        parts.append(f'<rect x="{x}" y="{y - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(_text(x + 20, y, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes() -> Iterator[str]:
    for rate in (20, 100, 1000, 10_000):
        yield (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(rate):.1f}" y2="{_y(rate):.1f}" '
            'stroke="#ddd"/>'
        )
        yield _text(LEFT - 6, _y(rate) + 4, f"{rate:,}", anchor="end")
    y = _y(CAPACITY)
    yield (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#000" '
        'stroke-dasharray="5 4"/>'
    )
    yield _text(LEFT + 4, y - 6, "what the server can serve")
    for second in range(int(X_FROM), int(X_TO) + 1, 5):
        yield _text(_x(second), HEIGHT - BOTTOM + 18, str(second), anchor="middle")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "seconds", anchor="middle")
    yield _text(WIDTH - RIGHT, 20, "attempts per second, log scale", anchor="end", colour="#666")


def _line(result: Result, colour: str) -> str:
    counts = Counter(int(moment / BIN) for moment in result.times)
    bins = range(int(X_FROM / BIN), int(X_TO / BIN))
    points = " ".join(f"{_x((b + 0.5) * BIN):.1f},{_y(counts[b] / BIN):.1f}" for b in bins)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _x(second: float) -> float:
    return LEFT + (second - X_FROM) / (X_TO - X_FROM) * (WIDTH - LEFT - RIGHT)


def _y(rate: float) -> float:
    share = math.log(max(rate, LOWEST) / LOWEST) / math.log(HIGHEST / LOWEST)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{text}</text>"


def table(results: dict[str, Result]) -> Iterator[str]:
    yield f"{'':31}{'attempts':>9}{'retries':>9}{'peak /0.1 s':>12}{'refused':>9}{'calm s':>8}"
    for name, result in results.items():
        yield (
            f"{name:31}{len(result.times):9}{result.retries:9}{result.peak:12}"
            f"{len(result.refused):9}{result.recovered:8.1f}   unknown {result.unknown}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retry_storm")
    parser.add_argument("--write", action="store_true", help="draw docs/retry-storm.svg")
    results = {strategy.name: simulate(strategy) for strategy in STRATEGIES}
    sys.stdout.write("\n".join(table(results)) + "\n")
    if parser.parse_args().write:
        picture = Path(__file__).resolve().parent.parent / "docs" / "retry-storm.svg"
        picture.write_text(draw(results))


if __name__ == "__main__":
    main()
