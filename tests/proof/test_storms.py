"""Many clients at once before real workers: one effect a key, no wrong refusal, no pile-up."""

from __future__ import annotations

import http.client
import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyKey
from tests.conformance.test_servers import database_url
from tests.orders.models import Order
from tests.proof.history import History, Operation
from tests.proof.server import Server, gunicorn
from tests.sender import new_key

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
]

PATIENCE = 30  # seconds
HELD = 3.0  # seconds that the slow request takes
KEYS, TWINS, CLIENTS = 200, 8, 16


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Server]:
    with gunicorn(database_url(), workers=4) as server:
        yield server


def ask(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def test_two_hundred_keys_with_eight_twins_each(server: Server, capsys: Any) -> None:
    """Some with another body: one order a key, nobody is answered 500, 422 only beside another."""
    seed = int(os.environ.get("PROOF_SEED", random.randrange(2**32)))
    chance, history = random.Random(seed), History(server.port)
    requests = []
    for key in (new_key() for _ in range(KEYS)):
        bodies = [1] * (TWINS - 2) + [2] * 2
        chance.shuffle(bodies)
        requests += [(key, qty) for qty in bodies]

    def send(request: tuple[str, int]) -> None:
        history.send(chance_of_way(request[0]), *request)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, requests))  # twins side by side, so they meet

    statuses = {operation.status for operation in history.operations}
    with capsys.disabled():
        print(f"\nstorm: seed {seed}, {len(requests)} requests, {history.outcomes()}", end=" ")
    assert statuses <= {201, 409, 422}
    assert not list(history.violations(ask))
    assert Order.objects.count() == KEYS
    assert not [o for o in history.operations if o.status == 422 and not met(o, history)], seed


def met(operation: Operation, history: History) -> bool:
    """Whether another body was sent with this key before this request was answered.

    Not whether that other body has won: see ``test_twins`` for a 422 that is none.
    """
    return any(
        other.key == operation.key and other.qty != operation.qty and other.began < operation.ended
        for other in history.operations
    )


def chance_of_way(key: str) -> str:
    """The same way for all uses of a key, all ways in turn."""
    return ("/proof/create/", "/proof/plain/", "/proof/async/")[int(key[:8], 16) % 3]


def test_two_hundred_replays_at_once(server: Server) -> None:
    """None is refused for the sake of the others, and each is counted."""
    key, history = new_key(), History(server.port)
    first = history.send("/proof/create/", key)
    barrier = threading.Barrier(40, timeout=PATIENCE)

    def replay(number: int) -> None:
        barrier.wait()
        for _ in range(5):
            history.send("/proof/create/", key)

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(replay, range(40)))

    replays = history.operations[1:]
    assert len(replays) == 200
    assert {(replay.status, replay.body) for replay in replays} == {(201, first.body)}
    assert all(replay.replayed for replay in replays)
    record = IdempotencyKey.objects.get()
    assert (record.replay_count, record.in_flight_count) == (200, 0)
    assert Order.objects.count() == 1


def test_fifty_twins_of_a_slow_request(server: Server, capsys: Any) -> None:
    """They are refused at once and do not hold workers: ``/health/`` answers all the while.

    Were each of them to wait for the first, three would fill the free workers, and a look at
    ``/health/`` would take what is left of the three seconds. What it takes is printed.
    """
    key, history = new_key(), History(server.port)
    stop = time.monotonic() + HELD

    def insist() -> list[Operation]:
        """Come back after what Retry-After says, one second."""
        refused = []
        while time.monotonic() < stop:
            refused.append(history.send("/apiview/", key))
            time.sleep(1)
        return refused

    with socket.create_server(("127.0.0.1", 0)) as gate, ThreadPoolExecutor(51) as pool:
        gate.settimeout(PATIENCE)
        port = str(gate.getsockname()[1])
        first = pool.submit(history.send, "/apiview/", key, 1, X_Hold=port)
        line, _ = gate.accept()  # it stands in its view
        with line:
            twins = [pool.submit(insist) for _ in range(50)]
            looks = list(look_for(server, HELD))
            wait(twins, PATIENCE)
            line.sendall(b"\n")
        assert first.result(PATIENCE).status == 201

    refused = [operation for twin in twins for operation in twin.result()]
    p95, slowest = statistics.quantiles(looks, n=20)[-1], max(looks)
    with capsys.disabled():
        print(f"\nhealth beside {len(refused)} refusals: {len(looks)} looks,", end=" ")
        print(f"p95 {p95 * 1000:.0f} ms, slowest {slowest * 1000:.0f} ms", end=" ")
    assert {operation.status for operation in refused} == {409}
    assert len(refused) >= 100
    assert p95 < float(os.environ.get("PROOF_HEALTH_SECONDS", "0.2"))
    assert not list(history.violations(ask))
    assert IdempotencyKey.objects.get().in_flight_count == len(refused)


def look_for(server: Server, seconds: float) -> Iterator[float]:
    """How long each look at ``/health/`` took."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        client.request("GET", "/health/")
        assert client.getresponse().read() == b"ok"
        client.close()
        yield time.monotonic() - began
