"""Everything fails at random, for seconds or for a night: the history stays clean.

Workers are killed by SIGKILL, sessions terminated, PostgreSQL restarted at once, while clients
retry until they have their answer. ``PROOF_CHAOS_SECONDS`` and ``PROOF_SEED`` choose the run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from tests.proof.cluster import Cluster, cluster
from tests.proof.history import FINAL, History
from tests.proof.server import Server, gunicorn

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SECONDS = float(os.environ.get("PROOF_CHAOS_SECONDS", "20"))
USABLE_AGAIN = 5.0  # seconds after the last fault
CLIENTS, WORKERS = 6, 3
WAYS = [
    f"/proof/{way}/"
    for way in ("create", "nested", "on_commit", "returned", "swallow_sql", "plain", "async")
]


class Clients:
    """Each makes one order after another, and asks for each until it is answered, and once more."""

    def __init__(self, history: History, chance: random.Random) -> None:
        self.history = history
        self.stop = threading.Event()
        self._seeds = [chance.randrange(2**32) for _ in range(CLIENTS)]

    def work(self, number: int) -> None:
        chance = random.Random(self._seeds[number])
        while not self.stop.is_set():
            key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
            way, provoke = chance.choice(WAYS), chance.random() < 0.1
            while not self._final(way, key, provoke):
                provoke = False
                time.sleep(chance.uniform(0.01, 0.1))  # the client's back-off
            self._final(way, key, False)

    def _final(self, way: str, key: str, provoke: bool) -> bool:
        operation = self.history.send(way, key, X_Provoke="fail" if provoke else "")
        return operation.status in FINAL or operation.status == 422


def kill_a_worker(server: Server, own: Cluster, chance: random.Random) -> bool:
    workers = server.workers()
    with suppress(ProcessLookupError):
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            return True
    return False


def terminate_a_session(server: Server, own: Cluster, chance: random.Random) -> bool:
    """One that is in a transaction if there is one at the moment."""
    with own.connect() as direct:
        found = direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' ORDER BY xact_start IS NULL, random() LIMIT 1"
        ).fetchone()
    return bool(found and found[0])


def restart_the_database(server: Server, own: Cluster, chance: random.Random) -> bool:
    own.restart()
    return True


FAULTS: dict[Callable[..., bool], int] = {
    kill_a_worker: 6,
    terminate_a_session: 12,
    restart_the_database: 2,
}


def test_chaos(capsys: Any) -> None:
    """0 lost, 0 doubled, 0 phantom or diverging answers, no key unusable for over five seconds."""
    seed = int(os.environ.get("PROOF_SEED", random.randrange(2**32)))
    chance, struck = random.Random(seed), Counter[str]()
    with cluster() as own, gunicorn(own.url, WORKERS) as server:
        history = History(server.port)
        clients = Clients(history, chance)
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(clients.work, number) for number in range(CLIENTS)]
            until = time.monotonic() + SECONDS
            try:
                while time.monotonic() < until:
                    (fault,) = chance.choices(list(FAULTS), list(FAULTS.values()))
                    with suppress(psycopg.OperationalError):
                        struck[fault.__name__] += fault(server, own, chance)
                    time.sleep(chance.uniform(0.05, 0.4))
            finally:
                last_fault = time.monotonic()
                clients.stop.set()
            for client in working:
                client.result()
        took = max(operation.ended for operation in history.operations) - last_fault
        with own.connect() as direct:
            violations = list(history.violations(asking(direct)))
            idle = direct.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            ).fetchone()

    keys = len({operation.key for operation in history.operations})
    with capsys.disabled():
        print(
            f"\nchaos: seed {seed}, {SECONDS:.0f} s, {dict(struck)}, {keys} keys, "
            f"{len(history.operations)} attempts {history.outcomes()}, "
            f"{len(violations)} violations, settled after {took:.1f} s",
            end=" ",
        )
    assert not violations, violations[:10]
    assert all(struck[fault.__name__] for fault in FAULTS), struck
    assert keys > CLIENTS
    assert took < USABLE_AGAIN
    assert idle == (0,)


def asking(direct: psycopg.Connection[Any]) -> Callable[..., list[tuple[Any, ...]]]:
    def ask(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return direct.execute(statement, parameters).fetchall()

    return ask
