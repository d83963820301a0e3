"""The checkers turn red: each finds the fault that is planted in the library for it.

What is planted are the mistakes of other libraries. They exist in the forked workers only.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.proof.bench import Site, Verdict
from tests.proof.enumeration import enumerate_faults
from tests.proof.fault_proxy import Fault
from tests.proof.plants import (
    delete_the_claim_on_any_error,
    ignore_that_the_store_failed,
    lock_no_row,
    render_after_the_commit,
    replay_something_else,
    store_in_a_transaction_of_its_own,
    take_every_unfinished_key_for_busy,
)
from tests.proof.twins import enumerate_twins

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.proof.urls"),
]


def kills(fault: Fault) -> bool:
    return fault.act == "kill" and fault.side == "before"


def drops(fault: Fault) -> bool:
    return fault.act == "drop" and fault.side == "after"


def before_it_writes(fault: Fault) -> bool:
    """Later than that a twin without a lock waits for the row, and that until it is given up."""
    return fault.at <= 4


def in_the_view(fault: Fault) -> bool:
    return kills(fault) and fault.at == 4


def red(verdict: Verdict, *invariants: str) -> None:
    """These invariants were violated, among others perhaps."""
    found = {violation.split(": ", 1)[1].split()[0] for violation in verdict.violations}
    assert verdict.fired
    assert set(invariants) <= found, verdict


def test_rendering_after_the_commit() -> None:
    """I4, I1: what cannot be rendered is answered 500, with an effect; the retry adds another."""
    plant = render_after_the_commit
    red(enumerate_faults(Site(), "first", "unrenderable", pick=drops, plant=plant), "I4", "I1")


def test_a_response_stored_in_its_own_transaction() -> None:
    """I1: killed between the two commits, and the retry executes again."""
    plant = store_in_a_transaction_of_its_own
    red(enumerate_faults(Site(), "first", "create", pick=kills, plant=plant), "I1")


def test_no_lock_on_the_row() -> None:
    """I1: twins both execute."""
    verdict = enumerate_twins(
        Site(), "first", "create", "twin", pick=before_it_writes, plant=lock_no_row
    )
    red(verdict, "I1")


def test_a_claim_deleted_in_an_except() -> None:
    """I1: the commit took place, its answer was lost, and so was the key."""
    plant = delete_the_claim_on_any_error
    red(enumerate_faults(Site(), "first", "create", pick=drops, plant=plant), "I1")


def test_a_store_whose_failure_is_ignored() -> None:
    """I3: the client gets a 201 for what was rolled back."""
    plant = ignore_that_the_store_failed
    red(enumerate_faults(Site(), "first", "swallow_sql", pick=drops, plant=plant), "I3")


def test_replays_that_say_something_else() -> None:
    """I2: the answer was lost, and the retry's is another."""
    plant = replay_something_else
    red(enumerate_faults(Site(), "first", "create", pick=drops, plant=plant), "I2")


def test_a_key_that_a_killed_worker_leaves_stuck(pooler: dict[str, Any]) -> None:
    """No answer in eight retries; found through PgBouncer, too."""
    plant = take_every_unfinished_key_for_busy
    for site in (Site(), Site(route="pooled")):
        verdict = enumerate_faults(
            site, "first", "create", pick=in_the_view, plant=plant, pooler=pooler
        )
        assert verdict.fired
        assert any("no final answer" in violation for violation in verdict.violations), verdict
