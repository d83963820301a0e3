"""Rows X of the specification: processes and connections that die. Real forks, real SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, connections, transaction

from django_idempotency.models import IdempotencyKey
from django_idempotency.store import Store
from tests.conformance.test_first_and_replay import every_way
from tests.orders import views
from tests.orders.models import Order
from tests.sender import Sender, new_key

in_thread_way = pytest.mark.parametrize(
    "way", ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/", "/plain/", "/class/"]
)


def die(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


def in_child(run: Callable[[], Any]) -> int:
    """Run in a forked process; the number of the signal that killed it, 0 = it ended itself."""
    connections.close_all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture
def patient(settings: Any) -> None:
    """Retries wait for PostgreSQL to notice that its client is dead, some milliseconds."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait", "WAIT": timedelta(seconds=2)}


@pytest.mark.usefixtures("patient")
@every_way
def test_x1_killed_in_the_view(send: Any, after: Any, way: str) -> None:
    """X1: no row; the retry executes at once, there is no lease to wait for."""
    key = new_key()
    after(die)
    assert in_child(lambda: Sender()(way, key=key)) == signal.SIGKILL
    assert not Order.objects.exists()
    assert IdempotencyKey.objects.get().completed_at is None
    after(usual)

    retry = send(way, key=key)

    assert retry.status_code == 201
    assert "Idempotent-Replayed" not in retry
    assert Order.objects.count() == 1


@pytest.mark.usefixtures("patient")
@every_way
def test_s20_a_request_that_kills_its_workers_is_not_tried_for_ever(
    send: Any, after: Any, settings: Any, way: str
) -> None:
    """S20: after MAX_CRASHES the view is not reached; failures that say so do not count."""
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "MAX_CRASHES": 2}
    key = new_key()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert [send(way, key=key).status_code for _ in range(3)] == [500] * 3
    after(die)
    assert [in_child(lambda: Sender()(way, key=key)) for _ in range(2)] == [signal.SIGKILL] * 2
    after(usual)

    refused = send(way, key=key)

    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_attempts_exhausted")
    assert "Retry-After" not in refused
    assert send(way, key=key).status_code == 409
    assert not Order.objects.exists()
    assert IdempotencyKey.objects.get().attempts == 5
    assert send(way, {"sku": "oil"}, key=key).status_code == 201  # another request may have it


@pytest.mark.usefixtures("patient")
@every_way
def test_attempts_count_the_executions_that_were_begun(send: Any, after: Any, way: str) -> None:
    """Failed, killed or successful; replays and refusals are none."""
    key, seen = new_key(), []

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    def tell(request: Any, order: Order) -> None:
        seen.append(getattr(request, "_request", request).idempotency.attempt)

    after(fail)
    assert send(way, key=key).status_code == 500
    after(die)
    assert in_child(lambda: Sender()(way, key=key)) == signal.SIGKILL
    after(tell)
    assert [send(way, key=key).status_code for _ in range(2)] == [201, 201]

    assert seen == [3]
    assert IdempotencyKey.objects.get().attempts == 3


@pytest.mark.usefixtures("patient")
@in_thread_way
def test_x2_killed_after_the_commit(send: Any, after: Any, way: str) -> None:
    """X2, R6: the response never left; the retry replays it, in another process."""
    key = new_key()
    after(lambda request, order: transaction.on_commit(die))
    assert in_child(lambda: Sender()(way, key=key)) == signal.SIGKILL
    assert Order.objects.count() == 1
    after(usual)

    retry = send(way, key=key)

    assert (retry.status_code, retry["Idempotent-Replayed"]) == (201, "true")
    assert retry.json()["id"] == Order.objects.get().pk
    assert Order.objects.count() == 1


@pytest.mark.usefixtures("patient")
@every_way
def test_x3_killed_between_claim_and_work(
    send: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """X3: the key is claimed and nothing has run: the retry executes."""
    key = new_key()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "exclusive", die)
        assert in_child(lambda: Sender()(way, key=key)) == signal.SIGKILL
    assert IdempotencyKey.objects.get().completed_at is None

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@every_way
def test_r6_a_replay_after_a_restart(send: Any, tmp_path: Path, way: str) -> None:
    """R6: executed in a process that is gone, replayed in this one."""
    key, answer = new_key(), tmp_path / "answer"
    assert in_child(lambda: answer.write_bytes(Sender()(way, key=key).content)) == 0

    retry = send(way, key=key)

    assert retry["Idempotent-Replayed"] == "true"
    assert retry.content == answer.read_bytes()
    assert Order.objects.count() == 1


def test_x4_the_client_is_gone_and_the_view_goes_on(send: Any) -> None:
    """X4: under WSGI nobody tells the view; a response that is thrown away is stored."""
    key = new_key()
    send("/apiview/", key=key).close()

    assert send("/apiview/", key=key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.row_locks
def test_x5_a_disconnect_leaves_effects_and_answer_or_neither(send: Any, after: Any) -> None:
    """X5: ASGI cancels the task of an async view: rolled back or stored, never half."""
    key, body = new_key(), json.dumps({"sku": "tea", "qty": 1}).encode()
    messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

    async def scenario() -> None:
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()
        left = iter(messages)

        def behave(request: Any, order: Order) -> None:
            loop.call_soon_threadsafe(entered.set)

        async def receive() -> Any:
            message = next(left)
            if message["type"] == "http.disconnect":
                await entered.wait()
            return message

        async def ignore(message: Any) -> None:
            """The client is gone."""

        views.BEHAVIOUR["after"] = behave
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"idempotency-key", key.encode()),
        ]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/async/",
            "query_string": b"",
            "headers": headers,
        }
        await ASGIHandler()(scope, receive, ignore)
        await sync_to_async(connections.close_all)()

    asyncio.run(scenario())
    views.BEHAVIOUR.clear()
    stored = IdempotencyKey.objects.completed().count()
    assert Order.objects.count() == stored

    retry = send("/async/", key=key)

    assert retry.status_code == 201
    assert ("Idempotent-Replayed" in retry) == bool(stored)
    assert Order.objects.count() == 1


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and new connections fail; call what it returns, and they succeed again."""

    def down() -> Callable[[], None]:
        connection.close()
        name = "NAME" if connection.vendor == "sqlite" else "HOST"
        usual = connection.settings_dict[name]
        monkeypatch.setitem(connections.settings["default"], name, "/nowhere/at/all")

        def up() -> None:
            connection.close()
            monkeypatch.setitem(connections.settings["default"], name, usual)

        return up

    return down


@every_way
def test_x6_a_store_that_is_down_fails_closed(
    send: Any, after: Any, no_database: Any, way: str
) -> None:
    """X6: 503 with Retry-After, the handler is not called; afterwards the key works."""
    called: list[Order] = []
    after(lambda request, order: called.append(order))
    key = new_key()

    up = no_database()
    refused = send(way, key=key)
    up()

    assert refused.status_code == 503
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["type"].endswith("/store-unavailable")
    assert refused["Retry-After"].isdigit()
    assert not called
    assert not Order.objects.exists()
    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.row_locks
@in_thread_way
@pytest.mark.parametrize("stored", [False, True])
def test_x7_a_connection_lost_during_the_work(
    send: Any, after: Any, settings: Any, way: str, stored: bool
) -> None:
    """X7: an error that asks for a retry; the retry executes once, whatever STORE_5XX says."""
    settings.IDEMPOTENCY = {"STORE_5XX": stored, "IN_FLIGHT": "wait"}
    key = new_key()

    def lose(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            mysql = connection.vendor == "mysql"
            own = (
                "KILL CONNECTION_ID()" if mysql else "SELECT pg_terminate_backend(pg_backend_pid())"
            )
            cursor.execute(own)

    after(lose)
    first = send(way, key=key)
    connection.close()
    assert first.status_code == 503
    assert first["Retry-After"].isdigit()
    assert not Order.objects.exists()
    after(usual)

    retry = send(way, key=key)

    assert retry.status_code == 201
    assert "Idempotent-Replayed" not in retry
    assert Order.objects.count() == 1
