"""Everything fails at random while clients retry; then what they heard must be what is there."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.proof.full_disk import STEPS, full, refusals
from tests.proof.history import History
from tests.proof.replicas import FailOver, Pair
from tests.proof.server import Server, gunicorn

__all__ = [
    "FAULTS",
    "Scene",
    "Verdict",
    "fail_over",
    "fill_the_disk",
    "fill_the_disk_before_the_store",
    "kill_a_worker",
    "restart_the_database",
    "strike",
    "terminate_a_session",
]

WORKERS = 3
STREAMS = (0, 1, 2, 3, 3, 4, 4)  # one client each; two with one stream send twins all the time
WAYS = [
    f"/proof/{way}/"
    for way in ("create", "nested", "on_commit", "returned", "swallow_sql", "plain", "async")
]
FULL = 0.4  # seconds that a disk is full at least
PATIENCE = 5  # seconds until somebody meets a full disk


class Clients:
    """Each makes one order after another, and asks for each until it is answered, and once more."""

    def __init__(self, history: History, seed: int) -> None:
        self.history = history
        self.stop = threading.Event()  # begin no other order
        self.give_up = threading.Event()  # a fault has failed: there may be no database any more
        self._seed = seed

    def work(self, number: int) -> None:
        stream = random.Random(f"{self._seed} {STREAMS[number]}")  # what is sent
        pauses = random.Random(f"{self._seed} pause {number}")
        while not self.stop.is_set():
            key = str(uuid.UUID(int=stream.getrandbits(128), version=4))
            way, provoke = stream.choice(WAYS), stream.random() < 0.1
            while not (self.give_up.is_set() or self._final(way, key, provoke)):
                provoke = False
                time.sleep(pauses.uniform(0.01, 0.1))  # the client's back-off
            self._final(way, key, False)

    def _final(self, way: str, key: str, provoke: bool) -> bool:
        return self.history.send(way, key, X_Provoke="fail" if provoke else "").is_answer


@dataclass
class Scene:
    """What faults strike at."""

    server: Server
    pair: Pair
    chance: random.Random
    failed_over: list[FailOver] = field(default_factory=list)


Fault = Callable[[Scene], bool]  # returns whether it has struck


def kill_a_worker(scene: Scene) -> bool:
    workers = scene.server.workers()
    with suppress(ProcessLookupError):
        if workers:
            os.kill(scene.chance.choice(workers), signal.SIGKILL)
            return True
    return False


def terminate_a_session(scene: Scene) -> bool:
    """One that is in a transaction if there is one at the moment."""
    with scene.pair.primary.connect() as direct:
        found = direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' ORDER BY xact_start IS NULL, random() LIMIT 1"
        ).fetchone()
    return bool(found and found[0])


def restart_the_database(scene: Scene) -> bool:
    scene.pair.primary.restart()
    return True


def fill_the_disk(scene: Scene) -> bool:
    """No room for the claim, the view's write or the response."""
    return _fill(scene, scene.chance.choice(list(STEPS)))


def fill_the_disk_before_the_store(scene: Scene) -> bool:
    return _fill(scene, "store")


def _fill(scene: Scene, step: str) -> bool:
    """Until somebody has met the full disk; then there is room again."""
    own = scene.pair.primary
    before, deadline = refusals(own), time.monotonic() + PATIENCE
    with full(own, step):
        time.sleep(FULL)
        while refusals(own) == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    return True


def fail_over(scene: Scene) -> bool:
    """And make another replica, beside the clients."""
    scene.failed_over.append(scene.pair.fail_over())
    scene.pair.replicate()
    return scene.failed_over[-1].claims > 0


FAULTS: Mapping[Fault, int] = {
    kill_a_worker: 6,
    terminate_a_session: 12,
    restart_the_database: 2,
    fill_the_disk: 2,
    fail_over: 1,
}


@dataclass(slots=True)
class Verdict:
    seed: int
    seconds: float
    keep: int  # seconds that the application keeps its connections
    struck: Counter[str]
    failed_over: list[FailOver]
    operations: int
    keys: int
    outcomes: dict[str, int]
    executed: int
    violations: list[str]
    waited: float  # seconds that somebody waited for the answer to one key, at most
    settled: float  # seconds between the last fault and the last answer
    idle: int  # sessions left in a transaction

    def __str__(self) -> str:
        lost = sum(failed.claims for failed in self.failed_over)
        waited = sum(failed.waiting for failed in self.failed_over)
        return (
            f"seed {self.seed}, {self.seconds:.0f} s, connections kept {self.keep} s: "
            f"{self.operations} operations on {self.keys} keys, "
            f"{self.struck.total()} faults {dict(self.struck)}, {lost} claims and "
            f"{waited} unanswered commits lost with a primary, {self.executed} executed, "
            f"{self.outcomes.get('unknown', 0)} unknown, {len(self.violations)} violations, "
            f"each answered within {self.waited:.1f} s, settled after {self.settled:.1f} s"
        )


def strike(
    pair: Pair,
    *,
    seed: int,
    seconds: float,
    faults: Mapping[Fault, int],
    pauses: tuple[float, float] = (0.05, 0.4),
    plant: str = "",
) -> Verdict:
    """Let clients work for ``seconds`` and as many faults strike as fit, each kind once at least.

    ``faults`` maps each to its weight. ``plant`` names a mistake for the library to make.
    """
    chance = random.Random(seed)
    keep, struck = chance.choice((0, 60)), Counter[str]()
    with gunicorn(pair.url, WORKERS, plant=plant, keep=keep) as server:
        history, scene = History(server.port), Scene(server, pair, chance)
        clients = Clients(history, seed)
        with ThreadPoolExecutor(len(STREAMS)) as pool:
            working = [pool.submit(clients.work, number) for number in range(len(STREAMS))]
            until = time.monotonic() + seconds
            try:
                for fault in _schedule(faults, chance):
                    struck[fault.__name__] += fault(scene)
                    if time.monotonic() > until and all(struck[f.__name__] for f in faults):
                        break
                    time.sleep(chance.uniform(*pauses))
            except BaseException:
                clients.give_up.set()
                raise
            finally:
                last_fault = time.monotonic()
                clients.stop.set()
            for client in working:
                client.result()
        took = max(operation.ended for operation in history.operations) - last_fault
        keys = {operation.key for operation in history.operations}
        with pair.primary.connect() as direct:

            def ask(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
                return direct.execute(statement, parameters).fetchall()

            return Verdict(
                *(seed, seconds, keep, struck, scene.failed_over),
                *(len(history.operations), len(keys), history.outcomes()),
                executed=ask(_EXECUTED, list(keys))[0][0],
                violations=list(history.violations(ask)),
                waited=history.longest_wait(),
                settled=took,
                idle=ask(_IDLE)[0][0],
            )


_EXECUTED = "SELECT count(*) FROM orders_order WHERE sku = ANY(%s)"
_IDLE = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"


def _schedule(faults: Mapping[Fault, int], chance: random.Random) -> Iterator[Fault]:
    """Each once, in any order; then without end, by weight."""
    first = list(faults)
    chance.shuffle(first)
    yield from first
    while True:
        yield from chance.choices(list(faults), list(faults.values()))
