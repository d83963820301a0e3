"""Rows X and R of the specification behind a real server: workers that die, clients that leave."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection, connections

from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import ROWS, new_key

pytestmark = [pytest.mark.row_locks, pytest.mark.django_db(transaction=True)]

PATIENCE = 20  # seconds
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Answer:
    status: int
    body: bytes
    worker: int
    replayed: bool


@dataclass
class Server:
    port: int

    def request(self, way: str, key: str, hold: int | None = None) -> http.client.HTTPConnection:
        """Send an order and do not wait for the answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if hold is not None:
            headers["X-Hold"] = str(hold)
        client.request("POST", way, json.dumps(ROWS), headers)
        return client

    def post(self, way: str, key: str) -> Answer:
        client = self.request(way, key)
        try:
            response = client.getresponse()
            worker = int(response.headers["X-Worker"])
            replayed = response.headers["Idempotent-Replayed"] == "true"
            return Answer(response.status, response.read(), worker, replayed)
        finally:
            client.close()

    def settled(self, way: str, key: str) -> Answer:
        """The first answer that is not 409, asked for again and again without a pause."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(ConnectionError):  # accepted by a worker that was just killed
                answer = self.post(way, key)
                if answer.status != 409:
                    return answer
        pytest.fail("the key is stuck")


def database_url() -> str:
    entry = connections.settings["default"]
    user, password, name = (quote(str(entry[part]), "") for part in ("USER", "PASSWORD", "NAME"))
    scheme, port = ("mysql", 3306) if connection.vendor == "mysql" else ("postgresql", 5432)
    if entry["HOST"].startswith("/"):
        return f"{scheme}://{user}:{password}@/{name}?host={quote(entry['HOST'])}"
    return f"{scheme}://{user}:{password}@{entry['HOST']}:{entry['PORT'] or port}/{name}"


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Server]:
    """gunicorn with two workers on the tests' database."""
    test_db = "mariadb" if connection.vendor == "mysql" else "postgres"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = ["--bind", f"fd://{listener.fileno()}", "--workers", "2", "--preload"]
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "tests.served:application"],
            env={**os.environ, "DATABASE_URL": database_url(), "TEST_DB": test_db},
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Server(listener.getsockname()[1])
        finally:
            process.send_signal(signal.SIGQUIT)  # at once
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def inside(server: Server, way: str, key: str) -> Iterator[tuple[int, http.client.HTTPConnection]]:
    """A request that stands in its view: (its worker, the client's end); goes on at the end."""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(PATIENCE)
        client = server.request(way, key, hold=gate.getsockname()[1])
        try:
            line, _ = gate.accept()
            with line, line.makefile("rb") as said:
                yield int(said.readline()), client
        finally:
            client.close()


every_kind = pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])


@every_kind
def test_x1_after_kill_9_the_retry_executes_without_a_wait(server: Server, way: str) -> None:
    """X1: a worker is killed in its view, in mid-transaction: no row, and no lease to wait for."""
    took = []
    for _ in range(3):
        Order.objects.all().delete()
        key = new_key()
        with inside(server, way, key) as (worker, _client):
            os.kill(worker, signal.SIGKILL)
            started = time.perf_counter()
            retry = server.settled(way, key)
            took.append(time.perf_counter() - started)

        assert (retry.status, retry.replayed) == (201, False)
        assert retry.worker != worker
        assert Order.objects.count() == 1

    # The quickest of three: a busy machine may delay one of them, a lease would delay all.
    # MariaDB has each request in more round trips.
    assert min(took) < (0.25 if connection.vendor == "postgresql" else 1), took


@every_kind
def test_x4_a_client_that_left_finds_its_answer(server: Server, way: str) -> None:
    """X4: WSGI does not tell the view; it goes on, its response is stored, the retry replays."""
    key = new_key()
    with inside(server, way, key) as (worker, client):
        assert client.sock is not None
        client.sock.close()  # the client is gone, its request is running
        assert not Order.objects.exists()
        assert IdempotencyKey.objects.get().completed_at is None

    retry = server.settled(way, key)

    assert (retry.status, retry.replayed) == (201, True)
    assert json.loads(retry.body)["id"] == Order.objects.get().pk
    assert IdempotencyKey.objects.get().attempts == 1
    os.kill(worker, 0)  # it lives: the client's end was no crash


@every_kind
def test_r6_another_worker_and_a_restarted_one_replay(server: Server, way: str) -> None:
    """R6: the worker that executed is killed; whoever answers now has never seen the request."""
    key = new_key()
    first = server.post(way, key)
    assert (first.status, first.replayed) == (201, False)
    gone = [first.worker]

    for _ in range(2):  # then its neighbour, so that only restarted processes are left
        os.kill(gone[-1], signal.SIGKILL)
        replay = server.settled(way, key)
        assert (replay.status, replay.replayed) == (201, True)
        assert replay.body == first.body
        assert replay.worker not in gone
        gone.append(replay.worker)

    assert Order.objects.count() == 1
