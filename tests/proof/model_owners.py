"""How a key that is there is given to a request of ``model_keys``: begun again, or taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .model_keys import (
    AGAIN,
    BEGIN,
    BEGINNING,
    CLAIM,
    COUNT,
    KNOWN,
    LOCK,
    MOMENT,
    PASSED,
    RELOCK,
    TAKE,
    TAKING,
    Row,
    Rules,
    State,
    Step,
    Violation,
    Worker,
    answered,
    judged,
    with_worker,
)

__all__ = ["GIVEN", "is_free", "locked", "patience", "told"]

Steps = Iterator[Step]


def locked(state: State) -> bool:
    return bool(state.upkeep) or any(worker.locks for worker in state.workers)


def told(
    state: State,
    number: int,
    worker: Worker,
    row: Row | None,
    *,
    busy: bool = False,
    exhausted: bool = False,
) -> Step:
    """Before the lock: answer, or go on to it."""
    same = row is None or row.body == worker.body
    done = (row.life, row.body) if row is not None and row.done else None
    expired = row is not None and row.expired
    word, response = judged(same, done, expired, busy, exhausted)
    if word == "Execute":
        return "on to the lock", with_worker(state, number, worker._replace(step=LOCK, seen=()))
    if word == "InFlight" and worker.ours and worker.patience:
        return patience(state, number, worker)
    return answered(state, number, worker, word, response, told_by=row)


def patience(state: State, number: int, worker: Worker) -> Step:
    again = worker._replace(step=CLAIM, seen=(), ours=(), patience=worker.patience - 1)
    return "patience", with_worker(state, number, again)


def is_free(row: Row, worker: Worker) -> bool:
    return row.expired if row.done else row.body != worker.body


def _as_seen(row: Row, seen: Row, rules: Rules) -> bool:
    """Nobody was given the key since, or finished under it."""
    counted = (row.attempts, row.done) == (seen.attempts, seen.done)
    return counted and (row.owner == seen.owner or not rules.compare_seed)


def _again(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Ask how many executions are accounted for; begin again at once, or under the lock."""
    at_once = rules.at_once and not _is_exhausted(Row(*worker.seen), state.row, rules)
    step, word = (BEGIN, "at once") if at_once else (RELOCK, "under the lock")
    yield word, with_worker(state, number, worker._replace(step=step))


def _is_exhausted(record: Row, row: Row | None, rules: Rules) -> bool:
    """Of what is begun, as it was read, too little is accounted for, as it is now."""
    accounted = 0 if row is None else row.failures
    return bool(rules.max_crashes) and record.attempts - accounted >= rules.max_crashes


def _begin(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Begin again what is unlocked and as it was seen."""
    row, seen = state.row, Row(*worker.seen)
    unchanged = row is not None and _as_seen(row, seen, rules)
    if row is None or locked(state) or not (unchanged or not rules.compare):
        yield told(state, number, worker, seen, busy=True)
        return
    if not unchanged and row.life == seen.life:
        msg = "begun again, though another has begun or finished it since it was seen"
        raise Violation(msg)
    yield _begun(state, number, worker, row)


def _begun(state: State, number: int, worker: Worker, row: Row) -> Step:
    row = row._replace(attempts=row.attempts + 1, expired=False)
    ours = worker._replace(step=LOCK, seen=(), locks=False, ours=row.owner)
    return "begun again", with_worker(state._replace(row=row), number, ours)


def _relock(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Lock the key, and judge it anew: it may have been forgotten, begun or taken over."""
    row, seen = state.row, Row(*worker.seen)
    if row is not None and locked(state):
        row = None
    if row is not None and row.done:
        yield told(state, number, worker, row)
    elif row is None or row.body != worker.body:
        yield told(state, number, worker, seen, busy=True)
    elif _is_exhausted(row, row, rules):
        yield from _exhausted(state, number, worker, rules)
    else:
        held = worker._replace(step=BEGINNING, locks=True)
        yield "locked to begin", with_worker(state, number, held)


def _beginning(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    assert state.row is not None  # nobody deletes what is locked
    yield _begun(state, number, worker, state.row)


def _exhausted(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    row = state.row
    assert row is not None
    # Twins between claim and lock count, too, until they execute or give way, and failures that
    # are not noted yet. The answer that they bring about is not final: it asks to come again.
    underway = any(worker.ours and worker.step in {LOCK, COUNT} for worker in state.workers)
    if row.crashes < rules.max_crashes and not underway:
        msg = f"refused as exhausted after {row.crashes} crashes"
        raise Violation(msg)
    yield told(state, number, worker, row, exhausted=True)


def _take(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Lock a free key to take it over, unless it is locked or no longer as it was seen."""
    row, locks = state.row, rules.take_locked
    passed = worker._replace(step=PASSED, seen=() if worker.step == MOMENT else worker.seen)
    if row is None or (locks and locked(state)):
        yield "held", with_worker(state, number, passed)
    elif rules.at_once and not _as_seen(row, Row(*worker.seen), rules):
        yield "changed", with_worker(state, number, passed)
    else:
        yield "locked", with_worker(state, number, worker._replace(step=TAKING, locks=locks))


def _taking(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """It is this request's, and that is committed."""
    row = state.row
    worker = worker._replace(locks=False, seen=())
    if row is None or not is_free(row, worker):  # read before the lock, where not at once
        if row is not None and rules.at_once and rules.take_locked:
            msg = "taken over, though another has finished under it since it was seen"
            raise Violation(msg)
        yield told(state, number, worker, row, busy=row is None)
        return
    # Who died did so for the request before: what is accounted for is all that is begun.
    lives, failures = (state.lives + 1, 0) if row.done else (state.lives, row.failures)
    life = lives if row.done else row.life
    taken = Row(life, worker.body, row.seed + 1, failures + 1, failures)
    ours = worker._replace(step=LOCK, ours=taken.owner)
    yield "taken over", with_worker(state._replace(row=taken, lives=lives), number, ours)


def _passed(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """The look that follows a take-over in vain; unchanged, the key is given a moment."""
    row, seen = state.row, worker.seen
    if rules.second_look and seen and row is not None and _as_seen(row, Row(*seen), rules):
        yield "a moment", with_worker(state, number, worker._replace(step=MOMENT))
        return
    if row is not None and is_free(row, worker) and (row.done or state.upkeep == KNOWN):
        row = None  # held, or about to be deleted: whose it will be, nobody knows
    busy = row is None or not row.done
    yield told(state, number, worker._replace(seen=()), row, busy=busy)


def _moment(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Try again, now that whoever was taking the key over has done so."""
    if any(other.step == TAKING for other in state.workers):
        yield "a moment", state
    else:
        yield from _take(state, number, worker, rules)


GIVEN: dict[int, Callable[[State, int, Worker, Rules], Steps]] = {
    AGAIN: _again,
    BEGIN: _begin,
    RELOCK: _relock,
    BEGINNING: _beginning,
    TAKE: _take,
    TAKING: _taking,
    PASSED: _passed,
    MOMENT: _moment,
}
