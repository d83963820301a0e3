"""What a worker of ``model_keys`` may do, step by step; as ``engine`` and ``store`` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .model_keys import (
    AGAIN,
    BEGIN,
    BEGINNING,
    CLAIM,
    COMMIT,
    COUNT,
    HELD,
    IDLE,
    INSERT,
    KNOWN,
    LATE,
    LOCK,
    MOMENT,
    PASSED,
    RELOCK,
    STORE,
    TAKE,
    TAKING,
    VIEW,
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

__all__ = ["STEPS", "commit"]

Steps = Iterator[Step]


def _locked(state: State) -> bool:
    return state.upkeep or any(worker.locks for worker in state.workers)


def _told(
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
        return _patience(state, number, worker)
    return answered(state, number, worker, word, response, told_by=row)


def _patience(state: State, number: int, worker: Worker) -> Step:
    again = worker._replace(step=CLAIM, seen=(), ours=(), patience=worker.patience - 1)
    return "patience", with_worker(state, number, again)


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
    if _is_free(row, worker):
        return "free", with_worker(state, number, worker._replace(step=TAKE, seen=row))
    if row.done:
        return _told(state, number, worker, row)
    return "unfinished", with_worker(state, number, worker._replace(step=AGAIN, seen=row))


def _is_free(row: Row, worker: Worker) -> bool:
    return row.expired if row.done else row.body != worker.body


def _as_seen(row: Row, seen: Row) -> bool:
    """Nobody was given the key since, or finished under it."""
    one, other = ((r.life, r.seed, r.attempts, r.done) for r in (row, seen))
    return one == other


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
        yield _told(state, number, worker, state.row)
    elif not _locked(state):
        yield "claimed", with_worker(state, number, worker._replace(step=VIEW, locks=True))


def _held(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """The look that follows a claim which waited too long."""
    row = state.row
    if row is None or not row.done:
        yield _told(state, number, worker, row, busy=True)
    else:
        yield _found(state, number, worker, row)


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
    unchanged = row is not None and _as_seen(row, seen)
    if row is None or _locked(state) or not (unchanged or not rules.compare):
        yield _told(state, number, worker, seen, busy=True)
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
    if row is not None and _locked(state):
        row = None
    if row is not None and row.done:
        yield _told(state, number, worker, row)
    elif row is None or row.body != worker.body:
        yield _told(state, number, worker, seen, busy=True)
    elif _is_exhausted(row, row, rules):
        yield from _exhausted(state, number, worker, rules)
    else:
        locked = worker._replace(step=BEGINNING, locks=True)
        yield "locked to begin", with_worker(state, number, locked)


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
    yield _told(state, number, worker, row, exhausted=True)


def _take(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Lock a free key to take it over, unless it is locked or no longer as it was seen."""
    row, locks = state.row, rules.take_locked
    passed = worker._replace(step=PASSED, seen=() if worker.step == MOMENT else worker.seen)
    if row is None or (locks and _locked(state)):
        yield "held", with_worker(state, number, passed)
    elif rules.at_once and not _as_seen(row, Row(*worker.seen)):
        yield "changed", with_worker(state, number, passed)
    else:
        yield "locked", with_worker(state, number, worker._replace(step=TAKING, locks=locks))


def _taking(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """It is this request's, and that is committed."""
    row = state.row
    worker = worker._replace(locks=False, seen=())
    if row is None or not _is_free(row, worker):  # read before the lock, where not at once
        yield _told(state, number, worker, row, busy=row is None)
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
    if rules.second_look and seen and row is not None and _as_seen(row, Row(*seen)):
        yield "a moment", with_worker(state, number, worker._replace(step=MOMENT))
        return
    if row is not None and _is_free(row, worker) and (row.done or state.upkeep == KNOWN):
        row = None  # held, or about to be deleted: whose it will be, nobody knows
    busy = row is None or not row.done
    yield _told(state, number, worker._replace(seen=()), row, busy=busy)


def _moment(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Try again, now that whoever was taking the key over has done so."""
    if any(other.step == TAKING for other in state.workers):
        yield "a moment", state
    else:
        yield from _take(state, number, worker, rules)


def _lock(state: State, number: int, worker: Worker, rules: Rules) -> Steps:
    """Begin the request's transaction with the lock, and judge again."""
    row = state.row
    if row is None or (rules.lock and _locked(state)):
        yield _told(_given_way(state, worker, rules), number, worker, None, busy=True)
        return
    same, done = row.body == worker.body, (row.life, row.body) if row.done else None
    word, response = judged(same, done, row.expired, busy=False, exhausted=False)
    if word == "Conflict" and _is_free(row, worker) and worker.patience:
        yield _patience(_given_way(state, worker, rules), number, worker)
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
    IDLE: _send,
    CLAIM: _claim,
    INSERT: _insert,
    HELD: _held,
    AGAIN: _again,
    BEGIN: _begin,
    RELOCK: _relock,
    BEGINNING: _beginning,
    TAKE: _take,
    TAKING: _taking,
    PASSED: _passed,
    MOMENT: _moment,
    LOCK: _lock,
    VIEW: _view,
    STORE: _store,
    COMMIT: commit,
    LATE: _late,
    COUNT: _count,
}
