"""Three storms before real workers. Each returns what was measured and what must not be."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection

from tests.proof.history import Ask, History, Operation
from tests.proof.server import Server

__all__ = ["Storm", "many_keys", "many_replays", "one_slow_request"]

PATIENCE = 120  # seconds, for machines with much else to do
CLIENTS = 16
TALLY = (
    "SELECT COALESCE(SUM(replay_count), 0), COALESCE(SUM(in_flight_count), 0) "
    "FROM django_idempotency_keytally JOIN django_idempotency_idempotencykey k ON key_id = k.id "
    "WHERE k.key = %s"
)


@dataclass(frozen=True, slots=True)
class Storm:
    measured: str
    complaints: list[str]


def many_keys(server: Server, ask: Ask, *, seed: int, keys: int = 200, twins: int = 8) -> Storm:
    """Each key from ``twins`` clients at once, a quarter of them with another body."""
    chance, history = random.Random(seed), History(server.port)
    requests = []
    for _ in range(keys):
        key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        bodies = [1] * (twins - twins // 4) + [2] * (twins // 4)
        chance.shuffle(bodies)
        requests += [(key, qty) for qty in bodies]

    def send(request: tuple[str, int]) -> None:
        history.send(_way(request[0]), *request)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, requests))  # twins side by side, so they meet

    complaints = list(history.violations(ask))
    for operation in history.operations:
        if operation.status not in {201, 409, 422}:
            complaints.append(f"{operation.key}: answered {operation.status}")
        elif operation.status == 422 and not _met(operation, history):
            complaints.append(f"{operation.key}: 422 though no other body was sent")
    sent = sorted({key for key, _ in requests})
    places = ", ".join(["%s"] * len(sent))
    ((orders,),) = ask(f"SELECT count(*) FROM orders_order WHERE sku IN ({places})", *sent)
    if orders != keys:
        complaints.append(f"{orders} orders of {keys} keys")
    measured = f"seed {seed}, {len(requests)} operations on {keys} keys, {history.outcomes()}"
    return Storm(f"{measured}, {orders} executed, {len(complaints)} violations", complaints)


def _met(operation: Operation, history: History) -> bool:
    """Whether another body was sent with this key before this request was answered.

    Not whether that other body has won: see ``test_twins`` for a 422 that is none.
    """
    return any(
        other.key == operation.key and other.qty != operation.qty and other.began < operation.ended
        for other in history.operations
    )


def _way(key: str) -> str:
    """The same way for all uses of a key, all ways in turn."""
    return ("/proof/create/", "/proof/plain/", "/proof/async/")[int(key[:8], 16) % 3]


def many_replays(server: Server, ask: Ask, key: str, *, clients: int = 200, each: int = 1) -> Storm:
    """All at once, of one finished key: none is refused for the sake of the others."""
    history = History(server.port)
    first = history.send("/proof/create/", key)
    barrier = threading.Barrier(clients, timeout=PATIENCE)

    def replay(number: int) -> None:
        barrier.wait()
        for _ in range(each):
            history.send("/proof/create/", key)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(replay, range(clients)))

    replays = history.operations[1:]
    complaints = [
        f"a replay was answered {replay.status}"
        for replay in replays
        if not replay.replayed or (replay.status, replay.body) != (201, first.body)
    ]
    ((counted, refused),) = ask(TALLY, key)
    if (counted, refused) != (clients * each, 0):
        complaints.append(f"counted {counted} replays of {clients * each}, {refused} refusals")
    complaints += history.violations(ask)
    seconds = max(o.ended for o in replays) - min(o.began for o in replays)
    measured = f"{len(replays)} replays in {seconds:.2f} s, {counted} counted"
    return Storm(f"{measured}, {len(complaints)} violations", complaints)


def one_slow_request(
    server: Server, ask: Ask, key: str, *, seconds: float = 3.0, twins: int = 50, limit: float
) -> Storm:
    """Its twins are refused at once and hold no worker: ``/health/`` answers all the while.

    Were each of them to wait for the first, three would fill the free workers, and a look at
    ``/health/`` would take what is left of the time. ``limit``: seconds for 95 % of the looks, or
    twice what they take beside as many replays, where the machine has much else to do.
    """
    history = History(server.port)
    done = history.send("/proof/create/", f"{key}-done")
    with _insisting(history, "/proof/create/", done.key, twins), _looking(server, 1) as usual:
        looks = usual()
    limit = max(limit, 2 * _p95(looks))

    with socket.create_server(("127.0.0.1", 0)) as gate, ThreadPoolExecutor(1) as pool:
        gate.settimeout(PATIENCE)
        port = str(gate.getsockname()[1])
        first = pool.submit(history.send, "/apiview/", key, 1, X_Hold=port)
        line, _ = gate.accept()  # it stands in its view
        with (
            line,
            _insisting(history, "/apiview/", key, twins),
            _looking(server, seconds) as beside,
        ):
            time.sleep(seconds)  # no longer, whether the looks come through or not
            line.sendall(b"\n")
            done, looks = first.result(PATIENCE), beside()
    return _judged(history, ask, done, twins, looks, limit)


@contextmanager
def _insisting(history: History, path: str, key: str, clients: int) -> Iterator[None]:
    """They come back after what Retry-After says, one second, not all at once."""
    stop = threading.Event()

    def insist() -> None:
        while not stop.is_set():
            history.send(path, key)
            stop.wait(random.uniform(0.5, 1.5))

    with ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            pool.submit(insist)
        try:
            yield
        finally:
            stop.set()


@contextmanager
def _looking(server: Server, seconds: float) -> Iterator[Callable[[], list[float]]]:
    """Yields what waits for the looks at ``/health/`` and returns how long each took."""
    with ThreadPoolExecutor(1) as pool:
        looks = pool.submit(lambda: list(_look_for(server, seconds)))
        yield lambda: looks.result(PATIENCE)


def _look_for(server: Server, seconds: float) -> Iterator[float]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        client.request("GET", "/health/")
        assert client.getresponse().read() == b"ok"
        client.close()
        yield time.monotonic() - began


def _p95(looks: list[float]) -> float:
    return sorted(looks)[len(looks) * 95 // 100]


def _judged(
    history: History, ask: Ask, done: Operation, twins: int, looks: list[float], limit: float
) -> Storm:
    refused = [o for o in history.operations if o.key == done.key and o is not done]
    during = [operation for operation in refused if operation.ended < done.ended]
    p95, complaints = _p95(looks), list(history.violations(ask))
    complaints += [f"a twin was answered {o.status}" for o in during if o.status != 409]
    if done.status != 201:
        complaints.append(f"the slow request was answered {done.status}")
    if len(during) < twins:
        complaints.append(f"only {len(during)} refusals while it ran")
    if p95 >= limit:
        complaints.append(f"/health/ p95 {p95 * 1000:.0f} ms")
    ((_, counted),) = ask(TALLY, done.key)
    if counted != sum(operation.status == 409 for operation in refused):
        complaints.append(f"counted {counted} refusals of {len(refused)}")
    measured = (
        f"{len(refused)} refusals of {twins} twins, /health/ p95 {p95 * 1000:.0f} ms of "
        f"{limit * 1000:.0f}, slowest {max(looks) * 1000:.0f} ms of {len(looks)} looks"
    )
    return Storm(f"{measured}, {len(complaints)} violations", complaints)


def ask_here(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Of the tests' own database."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
