"""Every state of ``model_keys`` that can be reached, and what must hold in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from .model_keys import (
    COMMIT,
    IDLE,
    KNOWN,
    STORE,
    UNKNOWN,
    VIEW,
    Row,
    Rules,
    State,
    Step,
    Violation,
    Worker,
    with_worker,
)
from .model_restarts import remembered, restarted
from .model_steps import STEPS, commit

__all__ = ["Explored", "explore", "successors"]

EXECUTING = {VIEW, STORE, COMMIT}


@dataclass
class Explored:
    states: int = 0
    steps: int = 0
    words: Counter[str] = field(default_factory=Counter)  # how often each kind of step was taken


def explore(first: State, rules: Rules) -> Explored:
    """Look at all states.

    Raises:
        Violation: an invariant does not hold; the message tells the way there.
    """
    found = Explored()
    came: dict[State, tuple[str, State | None]] = {first: ("", None)}
    waiting = [first]
    while waiting:
        state = waiting.pop()
        found.states += 1
        try:
            check(state, rules)
            for word, after in successors(state, rules):
                found.steps += 1
                found.words[word] += 1
                if after not in came:
                    came[after] = (word, state)
                    waiting.append(after)
        except Violation as violation:
            raise Violation(f"{violation}\nafter: {_way(came, state)}") from None  # noqa: EM102
    return found


def _way(came: dict[State, tuple[str, State | None]], state: State | None) -> str:
    words = []
    while state is not None:
        word, state = came[state]
        words.append(word)
    return ", ".join(reversed(words)).lstrip(", ")


def check(state: State, rules: Rules) -> None:
    """The invariants of a state; those of an answer are checked where it is given."""
    row, lives = state.row, [life for life, _ in state.effects]
    if len(set(lives)) < len(lives):
        msg = f"more than one effect in a life of the key: {state.effects}"
        raise Violation(msg)
    if row is not None and row.done and (row.life, row.body) not in state.effects:
        msg = "a response without its effect"
        raise Violation(msg)
    if row is not None and not row.done and row.life in lives:
        msg = "an effect without its response"
        raise Violation(msg)
    _ensure_excluded(state, rules)
    if row is not None and rules.claim_first:
        if rules.max_crashes and not row.done:
            dying = sum(worker.ours == row.owner for worker in state.workers)
            row = row._replace(crashes=row.crashes + dying)
        for body in (0, 1):
            _ensure_free(row, body, rules)


def _ensure_excluded(state: State, rules: Rules) -> None:
    """Whoever executes is alone, under an unfinished key that names his request."""
    row = state.row
    running = [worker for worker in state.workers if worker.step in EXECUTING]
    if len(running) > 1:
        msg = "two executions of one key at once"
        raise Violation(msg)
    if running and rules.claim_first and (row is None or row.done or row.body != running[0].body):
        msg = f"an execution under a key that is not its own: {row}"
        raise Violation(msg)


@cache
def _ensure_free(row: Row, body: int, rules: Rules) -> None:
    """Should all workers die now, a retry is executed or replayed; another body where it may be."""
    counts = row.done and not row.expired
    if not row.done:
        row = row._replace(crashes=row.attempts - row.failures)
    words = _alone(State(row, (Worker(IDLE, body, 1),), _effects(row), lives=row.life), rules)
    expected = {"Conflict"} if counts and body != row.body else {"Replay" if counts else "Executed"}
    limit = rules.max_crashes
    if limit and row.attempts - row.failures >= limit and not row.done and body == row.body:
        expected = {"Exhausted"}
    if words != expected:
        msg = f"stuck: with nobody else there, {row} answers body {body} with {words}"
        raise Violation(msg)


def _effects(row: Row) -> tuple[tuple[int, int], ...]:
    return ((row.life, row.body),) if row.done else ()


def _alone(state: State, rules: Rules) -> set[str]:
    """How the requests of a single worker end whose view does not fail."""
    ends: set[str] = set()
    for word, after in successors(state, rules):
        if word != "failed":
            idle = after.workers[0].step == IDLE
            ends |= {word} if idle else _alone(after, rules)
    return ends


def successors(state: State, rules: Rules) -> Iterator[Step]:
    """All that may happen next. Each takes something that is not given back, so it ends."""
    for word, after in _taken(state, rules):
        yield word, remembered(state, word, after, rules)
    yield from restarted(state, rules)


def _taken(state: State, rules: Rules) -> Iterator[Step]:
    """The steps of workers, of those who kill them, and of upkeep."""
    for number, worker in enumerate(state.workers):
        if number and worker == state.workers[number - 1]:
            continue  # a twin in the same place: the same again
        found = list(STEPS[worker.step](state, number, worker, rules))
        if not found and (worker.step != IDLE or worker.left):
            msg = f"{worker} waits for another"
            raise Violation(msg)
        yield from found
        if state.kills and worker.step != IDLE:
            yield from _killed(state, number, worker, rules)
    if state.row is not None:
        yield from _events(state, state.row, rules)


def _killed(state: State, number: int, worker: Worker, rules: Rules) -> Iterator[Step]:
    """What it has not committed is gone, its lock is free; a commit may just have come through."""
    row, less = state.row, state._replace(kills=state.kills - 1)
    if worker.step == COMMIT:
        for _, committed in commit(less, number, worker, rules):
            yield "killed after commit", committed
    if rules.max_crashes and row is not None and row.owner == worker.ours and not row.done:
        less = less._replace(row=row._replace(crashes=row.crashes + 1))
    yield "killed", with_worker(less, number, Worker(IDLE, worker.body, worker.left))


def _events(state: State, row: Row, rules: Rules) -> Iterator[Step]:
    if state.upkeep:
        yield "purged" if row.expired else "forgotten", state._replace(row=None, upkeep=0)
    if not state.events:
        return
    less = state._replace(events=state.events - 1)
    if not row.expired:
        yield "time passes", less._replace(row=row._replace(expired=True))
    if not state.upkeep and not any(worker.locks for worker in state.workers):
        busy = less._replace(upkeep=KNOWN if rules.at_once else UNKNOWN)
        yield "upkeep", with_worker(busy, 0, state.workers[0])
