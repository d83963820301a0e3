"""The protocol of one key, explored to its last state; and protocols that lack a part of it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.proof.model_explorer import explore, successors
from tests.proof.model_keys import (
    COMMIT,
    IDLE,
    LOCK,
    Row,
    Rules,
    State,
    Violation,
    Worker,
    answered,
    start,
)

SHAPES: dict[str, State] = {
    "two requests each, one body": start([0, 0], requests=2, kills=1, events=1),
    "two requests each, two bodies": start([0, 1], requests=2, kills=1, events=1),
    "three workers, one body": start([0, 0, 0], requests=1, kills=1, events=1),
    "three workers, two bodies": start([0, 0, 1], requests=1, kills=1, events=0),
    "a restart, one body": start([0, 0], requests=2, events=1, restarts=1),
    "a restart, two bodies": start([0, 1], requests=2, events=1, restarts=1),
}
CRASHING: dict[str, State] = {
    "three workers": start([0, 0, 0], requests=1, kills=1, events=0),
    "two requests each": start([0, 0], requests=2, kills=1, events=1),
}
if os.environ.get("PROOF") == "long":  # some minutes
    CRASHING |= {
        "two requests each, two bodies": start([0, 1], requests=2, kills=2, events=1),
        "two requests each, a restart": start([0, 0], requests=2, kills=1, events=1, restarts=1),
    }
    SHAPES |= {
        "three requests each, one body": start([0, 0], requests=3, kills=2, events=1),
        "two kills, two events, one body": start([0, 0], requests=2, kills=2, events=2),
        "two kills, two events, two bodies": start([0, 1], requests=2, kills=2, events=2),
        "three workers, two bodies, two kills": start([0, 0, 1], requests=1, kills=2, events=1),
        "two restarts and a kill": start([0, 1], requests=2, kills=1, restarts=2),
        "three workers, a restart": start([0, 0, 1], requests=1, kills=1, events=1, restarts=1),
    }

CONTROLS: dict[str, tuple[Rules, str]] = {
    "no lock": (Rules(lock=False), "two executions"),
    "claim not committed first": (Rules(claim_first=False), "waits for another"),
    "store in another transaction": (Rules(one_transaction=False), "effect without its response"),
    "begin again without compare-and-set": (Rules(compare=False), "begun again, though"),
    "not judged again under the lock": (Rules(judge_again=False), "key that is not its own"),
    "take-over without the lock": (Rules(take_locked=False), "key that is not its own"),
    "take-over after an old look": (Rules(compare_seed=False), "taken over, though"),
    "no second look": (Rules(second_look=False), "refused as a conflict"),
    "commit not flushed": (Rules(flush=False), "answer that was given is gone"),
    "keys kept where they may be lost": (Rules(durable_key=False), "key of an effect is gone"),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "as on MySQL"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_holds(shape: str, at_once: bool) -> None:
    """One effect in a life of a key, a response for each effect, no stuck state, no false word."""
    found = explore(SHAPES[shape], Rules(at_once=at_once))

    assert found.states > 10_000
    reached = {"Executed", "Replay", "InFlight", "failed", "too long"}
    if SHAPES[shape].kills:
        reached |= {"killed", "killed after commit"}
    if SHAPES[shape].restarts:
        reached |= {"restarted", "restarted after commit", "claim lost"}
    bodies = {worker.body for worker in SHAPES[shape].workers}
    reached |= {"begun again", "patience"} if len(bodies) == 1 else {"Conflict", "taken over"}
    reached |= {"a moment", "changed"} if at_once else {"a moment"}
    assert reached <= set(found.words)  # what never happens shows nothing


@pytest.mark.parametrize("fault", CONTROLS)
def test_a_protocol_without_it_is_found_out(fault: str) -> None:
    """Negative controls: each part is there for a reason, and the exploration sees it."""
    rules, complaint = CONTROLS[fault]
    shapes = ["three workers, one body", "two requests each, two bodies"]
    if not rules.compare_seed:
        shapes = ["two requests each, one body"]
    if not rules.second_look:
        shapes = ["three workers, two bodies"]
    if not (rules.flush and rules.durable_key):
        shapes = ["a restart, one body"]
    for shape in shapes:
        try:
            explore(SHAPES[shape], rules)
        except Violation as violation:
            if complaint in str(violation):
                return
            raise
    pytest.fail("nobody noticed")


def test_a_second_line_of_defence_is_seen_when_both_are_gone() -> None:
    """Without the lock the check on the store still stops a second effect; without both, nothing.

    ``lock=False`` alone is found out by two executions at once; here those are let pass.
    """
    state = State(Row(1, 0), (Worker(IDLE, 0, 1),) * 2, lives=1)
    both = tuple(worker._replace(step=COMMIT, left=0) for worker in state.workers)
    for checked in (True, False):
        rules = replace(Rules(lock=False), check_store=checked)
        effects = most_effects(state._replace(workers=both), rules)
        assert effects == (1 if checked else 2)


def most_effects(state: State, rules: Rules) -> int:
    return max(
        [len(state.effects)] + [most_effects(after, rules) for _, after in successors(state, rules)]
    )


@pytest.mark.parametrize(
    ("word", "response", "complaint"),
    [
        ("Replay", bytes((1, 0)), "did not happen"),
        ("InFlight", b"", "no other request"),
        ("Conflict", b"", "nothing counts"),
    ],
)
def test_an_answer_without_ground_is_found_out(word: str, response: bytes, complaint: str) -> None:
    """Negative control: of a worker that is alone, where nothing was ever committed."""
    with pytest.raises(Violation, match=complaint):
        answered(State(None, (Worker(LOCK, 0, 0),)), 0, Worker(LOCK, 0, 0), word, response)


def test_a_response_of_another_request_is_found_out() -> None:
    """Negative control: it did happen, and is not this request's."""
    state = State(Row(1, 1, done=True), (Worker(LOCK, 0, 0),), effects=((1, 1),))
    with pytest.raises(Violation, match="not the request's"):
        answered(state, 0, state.workers[0], "Replay", bytes((1, 1)))


def test_a_key_may_be_used_up_by_crashes() -> None:
    """With MAX_CRASHES: no stuck state but the one that is meant, and it is reached."""
    found = explore(start([0], requests=4, kills=2, events=0), Rules(max_crashes=2))

    assert {"Exhausted", "counted"} <= set(found.words)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "as on MySQL"])
@pytest.mark.parametrize("shape", CRASHING)
def test_a_key_is_used_up_by_crashes_alone(shape: str, at_once: bool) -> None:
    """No refusal as exhausted unless as many workers died as MAX_CRASHES says."""
    explore(CRASHING[shape], Rules(max_crashes=2, at_once=at_once))
