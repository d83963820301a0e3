"""The protocol of one key as a state machine, small enough to look at every state of it.

Several workers send requests for one key. Each step below is one statement of the real ones, or
one commit; between any two of them any other worker may take a step, a worker may be killed, time
may pass, and the purge or an operator may delete the row. What a request does with what it has
read is asked of the real ``protocol.decide``.

The database is modelled as PostgreSQL behaves at READ COMMITTED: what is not committed is not
seen, a lock ends with its transaction or with its worker, SKIP LOCKED passes over what is locked,
and an insert reads its snapshot before it inserts. How MySQL differs in its steps is a rule. One
thing is taken for granted about time: a take-over, a single statement, is over within a moment.

When the database ends, be it restarted or followed by its replica, everything up to the last
flushed commit is there afterwards, and of what came later a part: see ``model_restarts``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from django_idempotency.protocol import Attempt, KeyRecord, StoredResponse, decide

__all__ = ["Row", "Rules", "State", "Step", "Violation", "Worker", "answered", "judged", "start"]

PATIENCE = 1  # the engine has three passes; one more or less shows nothing new
_SEED = uuid.UUID(int=0)

# Where a worker stands: before the step of that name.
IDLE, CLAIM, INSERT, HELD, AGAIN, BEGIN, RELOCK, BEGINNING = range(8)
TAKE, TAKING, PASSED, MOMENT, LOCK, VIEW, STORE, COMMIT, LATE, COUNT = range(8, 18)
EXECUTING = {VIEW, STORE, COMMIT}
# Whether upkeep's lock can be told from that of a request: on PostgreSQL, and not on MySQL.
KNOWN, UNKNOWN = 1, 2


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The protocol as it is, and what a negative control takes away from it."""

    lock: bool = True  # the request holds the lock of its row
    claim_first: bool = True  # the claim is committed before the request runs
    one_transaction: bool = True  # effect and response are committed together
    compare: bool = True  # begin again only what is as it was seen
    compare_seed: bool = True  # which tells who was given the key since; the count may be the same
    judge_again: bool = True  # under the lock
    check_store: bool = True  # a response is stored where there is none, or all is rolled back
    take_locked: bool = True  # only an unlocked key is taken over
    second_look: bool = True  # at a key that another may just be taking over
    at_once: bool = True  # a free key is judged and taken over in one statement: not on MySQL
    flush: bool = True  # a request's commit survives the end of the database; its claim need not
    durable_key: bool = True  # where effects survive, so does the key that was committed with them
    max_crashes: int = 0  # 0 = without end, and then nothing is counted, which saves states


class Row(NamedTuple):
    """What is committed. ``life`` counts from insert or renewal to deletion or renewal."""

    life: int
    body: int
    seed: int = 0  # changes with each take-over in this life
    attempts: int = 1
    failures: int = 0
    crashes: int = 0  # workers that died after they were given the key; no column, an oracle
    done: bool = False
    expired: bool = False

    @property
    def owner(self) -> tuple[int, int]:
        """Names the request that the key was last given to, all others being counted to it."""
        return self.life, self.seed


class Worker(NamedTuple):
    step: int
    body: int
    left: int  # requests still to send
    seen: Row | tuple[()] = ()  # the row that was read; () = none
    locks: bool = False
    ours: tuple[int, ...] = ()  # as whose owner this request was given the key
    met: bool = False  # another request, or upkeep, was under way at some time during this one
    crossed: bool = False  # so was a request with another body
    patience: int = PATIENCE


class State(NamedTuple):
    row: Row | None
    workers: tuple[Worker, ...]  # sorted: who is who does not matter
    effects: tuple[tuple[int, int], ...] = ()  # (life, body) of each that is committed
    lives: int = 0  # begun so far
    kills: int = 0  # left to happen
    events: int = 0  # of time, purge and operator, left to happen
    upkeep: int = 0  # has locked the row and is about to delete it; see below
    restarts: int = 0  # of the database, or failovers to its replica, left to happen
    # What else the database may come back with: (row, effects) since it has last flushed.
    before: tuple[tuple[Row | None, tuple[tuple[int, int], ...]], ...] = ()


Step = tuple[str, State]


def start(
    bodies: list[int], *, requests: int, kills: int = 0, events: int = 0, restarts: int = 0
) -> State:
    workers = tuple(sorted(Worker(IDLE, body, requests) for body in bodies))
    return State(None, workers, kills=kills, events=events, restarts=restarts)


@cache
def judged(
    same: bool, done: tuple[int, int] | None, expired: bool, busy: bool, exhausted: bool
) -> tuple[str, bytes]:
    """What the real judge says: its word, and whose response it replays."""
    response = None if done is None else StoredResponse(status=201, body=bytes(done))
    decision = decide(
        KeyRecord(
            same_request=same,
            attempt=Attempt(seed=_SEED),
            response=response,
            expired=expired and response is not None,
            busy=busy,
            exhausted=exhausted,
        )
    )
    replayed = getattr(decision, "response", None)
    return type(decision).__name__, b"" if replayed is None else replayed.body


def with_worker(state: State, number: int, worker: Worker) -> State:
    """``state`` with one worker changed."""
    workers = list(state.workers)
    workers[number] = worker
    active = [w for w in workers if w.step != IDLE]
    if len(active) > 1 or state.upkeep:
        two = len({w.body for w in active}) > 1 or state.upkeep == UNKNOWN
        met = {w: w._replace(met=True, crossed=w.crossed or two) for w in active}
        workers = [met.get(w, w) for w in workers]
    return state._replace(workers=tuple(sorted(workers)))


def answered(
    state: State,
    number: int,
    worker: Worker,
    word: str,
    response: bytes = b"",
    *,
    told_by: Row | None = None,
) -> Step:
    """The request ends; what it is told must be backed by what is committed.

    ``told_by`` is the row that was judged.
    """
    if word == "Replay" and (tuple(response) not in state.effects or response[1] != worker.body):
        msg = f"replayed {tuple(response)}, which is not the request's or did not happen"
        raise Violation(msg)
    if word == "InFlight" and not worker.met:
        msg = "refused as in flight, and there was no other request"
        raise Violation(msg)
    counts = told_by is not None and told_by.done and not told_by.expired
    if word == "Conflict" and not worker.crossed and not counts:
        msg = "refused as a conflict, and nothing counts under the key"
        raise Violation(msg)
    return word, with_worker(state, number, Worker(IDLE, worker.body, worker.left))
