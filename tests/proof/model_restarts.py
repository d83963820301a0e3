"""What a restart, or a failover to a synchronous replica, does to a state of ``model_keys``.

A claim, a count of executions and a count of failures do not wait until they are on the disk, or
at the replica; a request's commit and what upkeep does wait. The log is written in order, so what
comes back is the database as it was at some moment since the last commit that waited.
"""

from __future__ import annotations

from collections.abc import Iterator

from .model_keys import COMMIT, IDLE, Row, Rules, State, Step, Violation, Worker
from .model_steps import commit

__all__ = ["remembered", "restarted"]

WAITING = {"purged", "forgotten"}


def remembered(state: State, word: str, after: State, rules: Rules) -> State:
    """``after``, a step after ``state``, with what a restart might bring back."""
    if not after.restarts or (state.row, state.effects) == (after.row, after.effects):
        return after
    if word == "time passes":  # that is no write
        return after._replace(before=tuple((_late(row), done) for row, done in state.before))
    if word in WAITING or (rules.flush and state.effects != after.effects):
        return after._replace(before=())
    return after._replace(before=(*state.before, (state.row, state.effects)))


def _late(row: Row | None) -> Row | None:
    return row if row is None else row._replace(expired=True)


def restarted(state: State, rules: Rules) -> Iterator[Step]:
    """Every connection breaks; a commit that was under way may have come through."""
    idle = all(worker.step == IDLE for worker in state.workers)
    if not state.restarts or (idle and not state.before):
        return
    for number, worker in enumerate(state.workers):
        if worker.step == COMMIT:
            for _, committed in commit(state, number, worker, rules):
                yield "restarted after commit", _come_back(committed, committed.row)
    for row, effects in ((state.row, state.effects), *state.before):
        if effects != state.effects:
            msg = "an answer that was given is gone with the database"
            raise Violation(msg)
        lost = row is None and state.row is not None
        yield "claim lost" if lost else "restarted", _come_back(state, row)
    if not rules.durable_key:
        yield "key lost", _come_back(state, None)


def _come_back(state: State, row: Row | None) -> State:
    done = state.row
    if done is not None and done.done and (row is None or not row.done):
        msg = f"the key of an effect is gone with the database: {done}"
        raise Violation(msg)
    if row is not None and not row.done:
        dead = sum(worker.ours == row.owner for worker in state.workers)
        crashes, lost = row.crashes, 0
        if done is not None and done.life == row.life:
            # A failure whose account is lost cannot be told from a crash; who died is dead.
            crashes, lost = max(crashes, done.crashes), done.failures - row.failures
        row = row._replace(crashes=crashes + dead + lost)
    workers = tuple(sorted(Worker(IDLE, w.body, w.left) for w in state.workers))
    less = state._replace(restarts=state.restarts - 1, before=(), upkeep=0)
    return less._replace(row=row, workers=workers)
