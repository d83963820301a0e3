"""Strike at every round trip of a request, one scenario each, and judge what is left.

A scenario: prepare; the struck attempt; retries until the answer is final, eight at most; one
more replay; judge. The attempt is a forked worker, so a killed one is really dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.proof import judge
from tests.proof.bench import Site, Verdict, bench
from tests.proof.fault_proxy import Fault
from tests.proof.flows import Plant, Scenario
from tests.proof.worker import warm_up

Pick = Callable[[Fault], bool]


def everything(fault: Fault) -> bool:
    return True


def checkerboard(fault: Fault) -> bool:
    """Half of the product: each round trip is dropped on one side and killed on the other."""
    return fault.side != "during" and (fault.act == "drop") == (
        (fault.side == "before") == (fault.at % 2 == 0)
    )


def enumerate_faults(
    site: Site,
    flow: str,
    shape: str,
    *,
    pick: Pick = everything,
    pooler: dict[str, Any] | None = None,
    plant: Plant | None = None,
) -> Verdict:
    """Count the round trips on a good run, then strike at each of them."""
    verdict = Verdict()
    with bench(site, pooler) as stand:
        trips = count(Scenario(stand, flow, shape, site.kept))
        for fault in filter(pick, faults(trips, site)):
            scenario = Scenario(stand, flow, shape, site.kept, plant)
            play(scenario, fault, verdict)
            verdict.violations += [
                f"{site} {flow} {shape}, {fault}: {what}" for what in scenario.violations
            ]
    return verdict


def faults(trips: int, site: Site) -> Iterable[Fault]:
    acts: tuple[Any, ...] = ("drop",) if site.kept else ("drop", "kill")
    sides: tuple[Any, ...] = ("before", "during", "after")
    for act in acts:
        yield Fault(0, "before", act)
        for at in range(1, trips + 1):
            yield from (Fault(at, side, act) for side in sides)


def count(scenario: Scenario) -> int:
    """The round trips of the attempt that will be struck; the good run is judged as well."""
    stand = scenario.stand
    warm_up(scenario.path, scenario.body(), "warm-up-" + scenario.key)
    scenario.prepare()
    stand.proxy.arm(None)
    scenario.hear(scenario.strike())
    trips = list(stand.proxy.trips)
    scenario.let_go()
    seconds = scenario.settle()
    violations = [*scenario.violations, *judge.ended(scenario, seconds)]
    assert not violations, (violations, trips)
    return len(trips)


def play(scenario: Scenario, fault: Fault, verdict: Verdict) -> None:
    stand = scenario.stand
    scenario.prepare()
    stand.proxy.arm(fault)
    worker = scenario.strike()
    stand.proxy.aim(worker.pid)
    answer = scenario.hear(worker)
    fired = stand.proxy.fired.is_set()
    stand.proxy.arm(None)
    scenario.let_go()

    verdict.scenarios += 1
    verdict.fired += fired
    if not fired:
        scenario.violations.append("the fault did not fire")
    elif (fault.act == "kill") != worker.killed:
        scenario.violations.append(f"the worker was {'' if worker.killed else 'not '}killed")
    scenario.violations += judge.refused(scenario, answer)
    seconds = scenario.settle()
    verdict.slowest = max(verdict.slowest, seconds)
    scenario.violations += judge.ended(scenario, seconds)
