"""Everything fails at random, for seconds or for a night: the history stays clean.

Workers are killed by SIGKILL, sessions terminated, PostgreSQL restarted at once, its disk fills
up, its primary is lost and a replica promoted, while clients retry until they have their answer.
``PROOF_CHAOS_SECONDS`` and ``PROOF_SEED`` choose the run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.proof.chaos import (
    FAULTS,
    Verdict,
    fail_over,
    fill_the_disk_before_the_store,
    kill_a_worker,
    strike,
)
from tests.proof.cluster import blank
from tests.proof.full_disk import load
from tests.proof.replicas import Pair, replicated

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

USABLE_AGAIN = 5.0  # seconds after the last fault
ANSWERED = 15.0  # seconds for each key, however many faults meet it; two or three, usually


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with blank() as files, replicated(files) as pair:
        load(pair.primary)
        yield pair


@pytest.fixture
def chaos(pair: Pair, tell: Callable[[str], None]) -> Callable[..., Verdict]:
    """``chaos(name, **options)`` strikes, tells the verdict and returns it."""

    def run(name: str, **options: Any) -> Verdict:
        seed = int(os.environ.get("PROOF_SEED", random.randrange(2**32)))
        verdict = strike(pair, seed=seed, **options)
        tell(f"{name}: {verdict}")
        return verdict

    return run


def duration(usual: float) -> float:
    return float(os.environ.get("PROOF_CHAOS_SECONDS", usual))


def check(verdict: Verdict) -> None:
    assert not verdict.violations, verdict.violations[:10]
    assert not any(failed.answers for failed in verdict.failed_over)
    assert verdict.settled < USABLE_AGAIN
    assert verdict.idle == 0
    assert verdict.waited < ANSWERED
    assert verdict.executed > max(len(FAULTS), verdict.seconds)  # twenty times that, usually
    assert all(verdict.struck[fault.__name__] for fault in FAULTS)


def test_chaos(chaos: Any) -> None:
    """0 lost, 0 doubled, 0 phantom or diverging answers, no key unusable for over five seconds."""
    check(chaos("chaos", faults=FAULTS, seconds=duration(10)))


@pytest.mark.proof
def test_long_chaos(chaos: Any) -> None:
    check(chaos("chaos", faults=FAULTS, seconds=duration(600)))


@pytest.mark.parametrize(
    ("plant", "fault", "seconds"),
    [
        ("store_some_time_later", kill_a_worker, 3),
        ("ignore_that_the_store_failed", fill_the_disk_before_the_store, 0),
        ("leave_commits_unflushed", fail_over, 0),
    ],
)
def test_a_planted_mistake_is_found(chaos: Any, plant: str, fault: Any, seconds: float) -> None:
    """Negative controls: the same clients, the same checks, and a library that is wrong."""
    name = f"chaos that must be noticed ({plant})"
    verdict = chaos(name, plant=plant, faults={fault: 1}, seconds=seconds, pauses=(0.2, 0.5))

    assert verdict.violations


def test_a_replica_that_nobody_waits_for(chaos: Any, pair: Pair) -> None:
    """Negative control: no library keeps what was answered, if the database does not."""
    pair.wait_for_replica(False)

    name = "chaos that must be noticed (an asynchronous replica)"
    verdict = chaos(name, faults={fail_over: 1}, seconds=0)

    assert verdict.violations
    assert sum(failed.answers for failed in verdict.failed_over)
