"""Two requests in an order that chance would hardly ever give: one stops, the other runs.

What stands between two steps of the first request is called there, in its own thread, so each
of these happens every time.
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from django_idempotency import engine
from django_idempotency.models import IdempotencyKey
from django_idempotency.rows import KeyRows
from django_idempotency.store import Store
from tests.conformance.test_crashes import die, in_child
from tests.conformance.views_more import Background, Gate
from tests.orders.models import Order
from tests.sender import Sender, new_key

OTHER = {"sku": "tea", "qty": 2}
ways = pytest.mark.parametrize("way", ["/apiview/", "/plain/"])


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


def fail(request: Any, order: Order) -> None:
    raise RuntimeError


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


@ways
def test_what_completed_before_the_lock_is_replayed(send: Any, before: Any, way: str) -> None:
    """The first claims; its twin begins again and completes; the first comes to lock."""
    key, twins = new_key(), []
    before(Store, "exclusive", lambda: twins.append(send(way, key=key)))

    first = send(way, key=key)

    assert [answer.status_code for answer in (first, *twins)] == [201, 201]
    assert first.content == twins[0].content
    assert [is_replay(answer) for answer in (first, *twins)] == [True, False]
    assert Order.objects.count() == 1


@pytest.mark.skipif(
    connection.vendor == "mysql", reason="there the count is raised under the lock of the row"
)
@ways
@pytest.mark.parametrize("outcome", [fail, usual])
def test_of_twins_that_begin_again_one_is_counted(
    send: Any, after: Any, before: Any, way: str, outcome: Any
) -> None:
    """Both have seen one execution; one begins the second, whose count the other may not raise."""
    key, twins = new_key(), []
    after(fail)
    send(way, key=key)
    after(outcome)
    before(KeyRows, "begin_again", lambda: twins.append(send(way, key=key)))

    send(way, key=key)

    assert twins[0].status_code == (500 if outcome is fail else 201)
    assert IdempotencyKey.objects.get().attempts == 2
    assert Order.objects.count() == (0 if outcome is fail else 1)


@ways
def test_nobody_takes_over_what_completed_meanwhile(
    send: Any, after: Any, before: Any, way: str
) -> None:
    """Another body finds a failed key free; before it takes it, the first's retry completes."""
    key, retries = new_key(), []
    after(fail)
    send(way, key=key)
    after(usual)
    before(Store, "_take_over", lambda: retries.append(send(way, key=key)))

    other = send(way, OTHER, key=key)

    assert (retries[0].status_code, other.status_code) == (201, 422)
    assert send(way, key=key).content == retries[0].content
    assert Order.objects.get().qty == 1


@ways
def test_an_expired_key_that_a_twin_made_new_is_replayed(send: Any, before: Any, way: str) -> None:
    """Two retries find a key expired; before the first takes it, the second has it and completes.

    Number and state are then as the first saw them: of a finished key that was executed once.
    """
    key, twins = new_key(), []
    send(way, key=key)
    past = timezone.now() - timedelta(hours=30)
    IdempotencyKey.objects.update(created_at=past, expires_at=past + timedelta(hours=24))
    before(Store, "_take_over", lambda: twins.append(send(way, key=key)))

    first = send(way, key=key)

    assert [is_replay(answer) for answer in (first, *twins)] == [True, False]
    assert first.content == twins[0].content
    assert Order.objects.count() == 2


@ways
def test_who_is_taken_over_before_the_lock_is_a_conflict(
    send: Any, after: Any, before: Any, way: str
) -> None:
    """The first claims and stops; another body takes the key, which nobody runs, and completes."""
    key, others = new_key(), []
    before(Store, "exclusive", lambda: others.append(send(way, OTHER, key=key)))

    first = send(way, key=key)

    assert (others[0].status_code, first.status_code) == (201, 422)
    assert Order.objects.get().qty == 2


@ways
def test_a_key_that_vanished_undoes_its_request(send: Any, after: Any, way: str) -> None:
    """The row goes while its request runs, which only SQL by hand can do: 500 and no order."""
    key = new_key()
    after(lambda request, order: IdempotencyKey.objects.all().delete() and None)

    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    after(usual)
    assert send(way, key=key).status_code == 201


@ways
def test_another_request_has_other_outbound_keys(send: Any, after: Any, way: str) -> None:
    """Of one request all attempts have one key for the other service; another body has another."""
    key, seen = new_key(), []

    def tell(request: Any, order: Order) -> None:
        seen.append(getattr(request, "_request", request).idempotency.outbound_key("charge"))
        raise RuntimeError

    after(tell)
    for body in (None, None, OTHER, OTHER):
        assert send(way, body, key=key).status_code == 500

    assert seen[0] == seen[1] != seen[2] == seen[3]


@pytest.mark.postgres
@ways
def test_the_commit_of_a_request_is_flushed(send: Any, after: Any, way: str) -> None:
    """Claim and count do not wait for the disk; the request's own transaction does."""
    seen = []

    def look(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            seen.append(cursor.fetchone()[0])
        if len(seen) % 2:
            raise RuntimeError

    after(look)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
    try:
        for body in (None, None, OTHER):  # claimed, begun again, replayed or refused
            send(way, body, key="one-key-for-all-of-them")
    finally:
        connection.close()

    assert seen == ["on", "on"]


@pytest.mark.parametrize("step", ["claim", "lock"])
@ways
def test_what_cannot_be_serialized_is_tried_again(
    send: Any, before: Any, way: str, step: str
) -> None:
    """40001 before the view: nothing has run, so the client need not hear of it, twice."""

    def refuse() -> None:
        raise OperationalError from psycopg.errors.SerializationFailure()

    before(KeyRows, step, refuse, refuse)

    assert send(way, key=new_key()).status_code == 201
    assert IdempotencyKey.objects.get().attempts == 1


@pytest.mark.postgres
@ways
def test_an_owner_waits_for_who_is_only_looking(
    send: Any, before: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its key is locked by somebody who looks whether it is free: the owner does not give up."""
    locked, leave = threading.Event(), threading.Event()

    def look() -> None:
        try:
            with transaction.atomic():
                IdempotencyKey.objects.select_for_update().get()
                locked.set()
                leave.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)

    def started() -> None:
        thread.start()
        assert locked.wait(20)

    def pause(seconds: float) -> None:
        leave.set()
        thread.join(20)

    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    before(Store, "exclusive", started)
    try:
        assert send(way, key=new_key()).status_code == 201
    finally:
        pause(0)


def test_twins_are_no_crashes(send: Sender, before: Any, settings: Any) -> None:
    """As many twins as MAX_CRASHES between claim and lock: nobody died, so nobody is refused so."""
    settings.IDEMPOTENCY = {"MAX_CRASHES": 3}
    key, answers = new_key(), []
    before(Store, "exclusive", *[lambda: answers.append(send("/plain/", key=key))] * 3)

    answers.append(send("/plain/", key=key))

    assert Order.objects.count() == 1
    assert not [a for a in answers if a.status_code == 409 and "Retry-After" not in a]


@pytest.mark.postgres
def test_twins_do_not_use_up_what_crashes_a_key_may_have(
    send: Sender, after: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Two of three twins are given the key and find it locked; later one worker dies, not three."""
    settings.IDEMPOTENCY = {"MAX_CRASHES": 3}
    key, gate, leave = new_key(), Gate(RuntimeError), threading.Event()
    usual_step, stopped = Store.exclusive, [threading.Event(), threading.Event()]
    waiting = iter(stopped)

    def stop(self: Store, *args: Any) -> Any:
        if (mine := next(waiting, None)) is not None:
            mine.set()
            assert leave.wait(20)
        return usual_step(self, *args)

    monkeypatch.setattr(Store, "exclusive", stop)
    after(gate)
    twins = []
    for reached in stopped:
        twins.append(Background("/plain/", key=key))
        assert reached.wait(20)
    with gate.hold("/plain/", key=key) as runs:
        leave.set()
        assert [twin.answer().status_code for twin in twins] == [409, 409]
        assert runs.answer().status_code == 500
    after(die)
    assert in_child(lambda: Sender()("/plain/", key=key)) == signal.SIGKILL
    after(usual)
    settings.IDEMPOTENCY = {"MAX_CRASHES": 3, "IN_FLIGHT": "wait"}

    assert send("/plain/", key=key).status_code == 201


def test_a_store_that_fails_does_not_use_up_a_key(send: Sender, before: Any, settings: Any) -> None:
    """503 at the lock, as often as MAX_CRASHES: nothing ran and nobody died; then it executes."""
    settings.IDEMPOTENCY = {"MAX_CRASHES": 3}
    key = new_key()

    def refuse() -> None:
        raise OperationalError from psycopg.errors.TooManyConnections()

    before(KeyRows, "lock", *[refuse] * 3)
    assert [send("/plain/", key=key).status_code for _ in range(3)] == [503] * 3

    assert send("/plain/", key=key).status_code == 201
