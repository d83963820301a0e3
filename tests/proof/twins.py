"""Two requests, one key, every interleaving of one with the whole of the other.

The first request is stopped before one of its round trips, and after its last one. Meanwhile
its rival runs from beginning to end; then the first goes on. No sleeps: the proxy holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django_idempotency.upkeep import forget
from tests.proof import judge
from tests.proof.bench import Site, Verdict, bench
from tests.proof.enumeration import Pick, count, everything
from tests.proof.fault_proxy import Fault
from tests.proof.flows import Plant, Scenario, swept
from tests.proof.worker import PATIENCE, Worker

RIVALS = ("twin", "other", "purge", "forget")


@dataclass
class Pair(Scenario):
    """A scenario whose key another request wants as well."""

    rival: str = "twin"

    @property
    def replays(self) -> bool:  # type: ignore[override]
        return self.rival != "other"

    def compete(self) -> Worker:
        if self.rival == "purge":
            return self.worker(lambda tell: tell(purged=swept()))
        if self.rival == "forget":
            return self.worker(lambda tell: tell(changed=len(forget([self.pk]).changed)))
        return self.sender(qty=3 if self.rival == "other" else None)

    def is_final(self, answer: dict[str, Any]) -> bool:
        # Whichever of two different requests was quicker has the key; the other is refused.
        return answer["status"] == self.final or (self.rival == "other" and answer["status"] == 422)


def enumerate_twins(
    site: Site,
    flow: str,
    shape: str,
    rival: str,
    *,
    pick: Pick = everything,
    pooler: dict[str, Any] | None = None,
    plant: Plant | None = None,
) -> Verdict:
    verdict = Verdict()
    with bench(site, pooler) as stand:
        trips = count(Scenario(stand, flow, shape))
        stops = [Fault(at, "before", "stall") for at in range(1, trips + 1)]
        if rival != "forget":  # a finished key that is forgotten may execute again
            stops.append(Fault(trips, "after", "stall"))
        for stop in filter(pick, stops):
            pair = Pair(stand, flow, shape, plant=plant, rival=rival)
            play(pair, stop, verdict)
            verdict.violations += [
                f"{site} {flow} {shape} with {rival}, {stop}: {what}" for what in pair.violations
            ]
    return verdict


def play(pair: Pair, stop: Fault, verdict: Verdict) -> None:
    proxy = pair.stand.proxy
    pair.prepare()
    proxy.arm(stop)
    first = pair.strike()
    fired = proxy.fired.wait(PATIENCE)
    try:
        pair.hear(pair.compete())
    finally:
        proxy.released.set()
    pair.hear(first)
    proxy.arm(None)

    verdict.scenarios += 1
    verdict.fired += fired
    seconds = pair.settle()
    verdict.slowest = max(verdict.slowest, seconds)
    if pair.rival == "other":
        _one_of_two(pair)
    pair.violations += judge.ended(pair, seconds)


def _one_of_two(pair: Pair) -> None:
    """Of two different requests one is replayed, and the other is refused."""
    statuses = sorted(_status(pair, qty) for qty in (1, 3))
    if statuses != [pair.final, 422]:
        pair.violations.append(f"both or neither in the end: {statuses}")


def _status(pair: Pair, qty: int) -> int:
    answer = pair.hear(pair.sender(qty=qty))
    return 0 if answer is None else int(answer["status"])
