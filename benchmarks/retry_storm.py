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
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import svg
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
X = svg.Scale(low=5, high=35, start=60, end=WIDTH - 20)  # seconds
# Attempts a second.
Y = svg.Scale(low=20, high=20_000, start=HEIGHT - 44, end=60, logarithmic=True)
BIN = 0.25  # seconds


def draw(results: dict[str, Result]) -> str:
    """An SVG of attempts a second."""
    title = "Attempts per second that reach a server which restarts"
    return svg.page(title, _parts(results), width=WIDTH, height=HEIGHT)


def _parts(results: dict[str, Result]) -> Iterator[str]:
    yield (
        f'<rect class="band" x="{X(OUTAGE[0]):.1f}" y="{Y.end:g}" '
        f'width="{X(OUTAGE[1]) - X(OUTAGE[0]):.1f}" height="{Y.start - Y.end:g}"/>'
    )
    yield svg.text(X(15), Y.end + 16, "the server hangs", anchor="middle", css="soft")
    for rate in (20, 100, 1000, 10_000):
        yield svg.level(X, Y(rate))
        yield svg.text(X.start - 6, Y(rate) + 4, f"{rate:,}", anchor="end")
    yield svg.level(X, Y(CAPACITY), css="mark")
    yield svg.text(X.start + 4, Y(CAPACITY) - 6, "what the server can serve")
    for second in range(int(X.low), int(X.high) + 1, 5):
        yield svg.text(X(second), Y.start + 18, str(second), anchor="middle")
    yield svg.text((X.start + X.end) / 2, HEIGHT - 8, "seconds", anchor="middle")
    yield svg.text(X.end, 20, "attempts per second, log scale", anchor="end", css="soft")
    for series, (name, result) in enumerate(results.items()):
        yield from svg.line(_points(result), series)
        yield from svg.legend(X.start + series % 2 * 200, 20 + series // 2 * 18, name, series)


def _points(result: Result) -> Iterator[tuple[float, float]]:
    counts = Counter(int(moment / BIN) for moment in result.times)
    for number in range(int(X.low / BIN), int(X.high / BIN)):
        yield X((number + 0.5) * BIN), Y(counts[number] / BIN)


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
