"""The four flows of a keyed request, top to bottom: execute, replay, refuse, fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from .exceptions import AttemptsExhausted, KeyExpired, KeyInProgress, KeyReused
from .protocol import (
    Attempt,
    Conflict,
    Decision,
    Execute,
    Exhausted,
    InFlight,
    KeyedRequest,
    KeyRecord,
    Outcome,
    Replay,
    StoredResponse,
    decide,
)
from .store import Store
from .trace import Trail

__all__ = ["Codec", "run"]

R = TypeVar("R")

_FIRST_PAUSE = 0.02  # seconds between two looks of a request that waits for its twin
_LONGEST_PAUSE = 0.25
_PATIENCE = 3  # passes of a request that has just been given the key and finds it locked


class Codec(Protocol[R]):
    """Turns a framework's response into a stored one and back."""

    def dump(self, response: R) -> tuple[R, StoredResponse]:
        """Render: (what the client gets now, what a retry will get)."""

    def load(self, stored: StoredResponse, attempt: Attempt) -> R:
        """Rebuild a response, or raise the reason why this client may not have it."""


def run(
    request: KeyedRequest,
    execute: Callable[[Attempt, Store], R],
    codec: Codec[R],
    *,
    wait: float = 0.0,
    events: bool = True,
) -> R:
    """Execute the request if it is the first of its key, else answer from what is stored.

    Returned by ``execute`` and final, a response is stored with the view's writes and
    replayed from then on. Raised, or returned and not final, everything is rolled back and
    the key stays free. ``wait`` is how many seconds a duplicate waits for the first request.

    Raises:
        KeyInProgress: another request holds the key.
        KeyReused: the key belongs to a different request.
        KeyExpired: the key is past its retention and must not be used again.
        AttemptsExhausted: too many executions of the key died without a word.
        TooManyKeys: the key is new, and its scope has too many.
        StoreUnavailable, OutcomeUnknown: the database failed.
    """
    store = Store(request)
    pauses = _pauses(wait)
    patience = _PATIENCE
    with Trail(store, events=events) as trail:
        while True:
            record = store.reserve()  # committed: from here on the key exists
            trail.reserved(record)
            decision, ours = decide(record), record.ours
            if isinstance(decision, Execute):
                with store.exclusive(record) as record:  # one transaction, the key's row locked
                    decision = decide(record)  # it may have completed meanwhile
                    if isinstance(decision, Execute):
                        trail.began(record)
                        response, stored = codec.dump(execute(record.attempt, store))
                        if request.is_final(stored.status):
                            store.complete(stored, duration_ms=trail.duration_ms)
                            trail.became(Outcome.EXECUTED, stored.status)
                        else:
                            store.abandon()
                            trail.became(Outcome.FAILED, stored.status)
                        return response
                if ours and patience and (isinstance(decision, InFlight) or store.is_free(record)):
                    # Another request is only looking whether the key is free, or was given the
                    # key meanwhile and failed: nothing that may decide about this one.
                    patience -= 1
                    time.sleep(_FIRST_PAUSE)
                    continue
            pause = next(pauses, None) if isinstance(decision, InFlight) else None
            if pause is None:
                return _answer(decision, record, trail, codec)
            time.sleep(pause)


def _answer(decision: Decision, record: KeyRecord, trail: Trail, codec: Codec[R]) -> R:
    """What a request gets that was not executed."""
    request = trail.store.request
    if isinstance(decision, Replay):
        response = codec.load(decision.response, record.attempt)
        trail.became(Outcome.REPLAYED, decision.response.status)
        return response
    if isinstance(decision, Conflict):
        trail.conflicted(record)
        raise KeyReused(status=request.conflict_status)
    if isinstance(decision, InFlight):
        trail.became(Outcome.IN_FLIGHT, None)
        raise KeyInProgress(status=request.in_flight_status)
    raise AttemptsExhausted if isinstance(decision, Exhausted) else KeyExpired


def _pauses(wait: float) -> Iterator[float]:
    """How long to sleep, in seconds, between looks at a key in flight."""
    deadline, pause = time.monotonic() + wait, _FIRST_PAUSE
    while time.monotonic() + pause <= deadline:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)
