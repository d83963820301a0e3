"""What a worker of ``model_keys`` may do, step by step; as ``engine`` and ``store`` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .model_keys import (
    AGAIN,
    CLAIM,
    COMMIT,
    COUNT,
    HELD,
    IDLE,
    INSERT,
    LATE,
    LOCK,
    STORE,
    TAKE,
    TAKING,
    VIEW,
    Row,
    Rules,
    State,
    Step,
    Worker,
    answered,
    judged,
    with_worker,
)
from .model_owners import GIVEN, is_free, locked, patience, told

__all__ = ["STEPS", "commit"]

Steps = Iterator[Step]


def _given_way(state: State, worker: Worker, rules: Rules) -> State:
    """Who was given the key and does not execute says so, apart from the key's own row."""
    row = state.row
    if row is None or not rules.max_crashes or row.owner != worker.ours:
        return state
    return state._replace(row=row._replace(failures=row.failures + 1))


def _send(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    if worker.left:
        sent = Worker(CLAIM, worker.body, worker.left - 1)
        yield "sent", with_worker(state, number, sent)


def _claim(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """The statement reads; what it finds, it does not insert."""
    if state.row is None or not rules.claim_first:
        yield "looked", with_worker(state, number, worker._replace(step=INSERT))
    else:
        yield _found(state, number, worker, state.row)


def _found(state: State, number: int, worker: Worker, row: Row) -> Step:
    """``Store._reserved``: free for this request, begun by nobody who lives, or finished."""
    if is_free(row, worker):
        return "free", with_worker(state, number, worker._replace(step=TAKE, seen=row))
    if row.done:
        return told(state, number, worker, row)
    return "unfinished", with_worker(state, number, worker._replace(step=AGAIN, seen=row))


def _insert(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """The statement's insert, which may meet what its snapshot has not seen."""
    if not rules.claim_first:
        yield from _insert_uncommitted(state, number, worker)
        return
    if any(
        w.step in {COMMIT, TAKING} for w in state.workers
    ):  # a twin is committing: the wait is bounded
        yield "too long", with_worker(state, number, worker._replace(step=HELD))
    if state.row is None:
        lives = state.lives + 1
        state = state._replace(row=Row(lives, worker.body), lives=lives)
    ours = Row(state.lives, worker.body).owner
    yield "claimed", with_worker(state, number, worker._replace(step=LOCK, ours=ours))


def _insert_uncommitted(state: State, number: int, worker: Worker) -> Steps:
    """A negative control: claim and request are one transaction, and a twin waits for it."""
    if state.row is not None:
        yield told(state, number, worker, state.row)
    elif not locked(state):
        yield "claimed", with_worker(state, number, worker._replace(step=VIEW, locks=True))


def _held(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """The look that follows a claim which waited too long."""
    row = state.row
    if row is None or not row.done:
        yield told(state, number, worker, row, busy=True)
    else:
        yield _found(state, number, worker, row)


def _lock(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Begin the request's transaction with the lock, and judge again."""
    row = state.row
    if row is None or (rules.lock and locked(state)):
        yield told(_given_way(state, worker, rules), number, worker, None, busy=True)
        return
    same, done = row.body == worker.body, (row.life, row.body) if row.done else None
    word, response = judged(same, done, row.expired, busy=False, exhausted=False)
    if word == "Conflict" and is_free(row, worker) and worker.patience:
        yield patience(_given_way(state, worker, rules), number, worker)
    elif word == "Execute" or not rules.judge_again:
        yield "running", with_worker(state, number, worker._replace(step=VIEW, locks=rules.lock))
    else:
        state = _given_way(state, worker, rules)
        yield answered(state, number, worker, word, response, told_by=row)


def _view(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    yield "written", with_worker(state, number, worker._replace(step=STORE))
    if rules.max_crashes:
        yield "failed", with_worker(state, number, worker._replace(step=COUNT, locks=False))
    else:
        yield answered(state, number, worker, "failed")


def _store(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    if not rules.claim_first and state.row is None:
        lives = state.lives + 1
        row = Row(lives, worker.body, done=True)
        effects = (*state.effects, (lives, worker.body))
        state = state._replace(row=row, lives=lives, effects=effects)
        yield answered(state, number, worker, "Executed")
        return
    yield "stored", with_worker(state, number, worker._replace(step=COMMIT))


def commit(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    row = state.row
    if row is None or (row.done and rules.check_store):
        yield answered(state, number, worker, "undone")
        return
    effects = tuple(sorted((*state.effects, (row.life, worker.body))))
    state = state._replace(effects=effects)
    if rules.one_transaction:
        row = row._replace(done=True, expired=False)
        yield answered(state._replace(row=row), number, worker, "Executed")
    else:
        yield "committed", with_worker(state, number, worker._replace(step=LATE, locks=False))


def _late(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """A negative control: the response is stored after the commit of what it tells."""
    row = state.row if state.row is None else state.row._replace(done=True)
    yield answered(state._replace(row=row), number, worker, "Executed")


def _count(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    row = state.row
    if row is not None:
        row = row._replace(failures=row.failures + 1)
    yield answered(state._replace(row=row), number, worker, "counted")


STEPS: dict[int, Callable[[State, int, Worker, Rules], Steps]] = {
    **GIVEN,
    IDLE: _send,
    CLAIM: _claim,
    INSERT: _insert,
    HELD: _held,
    LOCK: _lock,
    VIEW: _view,
    STORE: _store,
    COMMIT: commit,
    LATE: _late,
    COUNT: _count,
}
