"""Rows C of the specification: twins at the same time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from django_idempotency import engine
from django_idempotency.models import IdempotencyKey
from tests.conformance.test_first_and_replay import every_way
from tests.conformance.views_more import Background, Gate, user_and_token
from tests.orders.models import Order
from tests.sender import new_key


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a request waits for its twin."""
    event = threading.Event()

    def sleep(seconds: float) -> None:
        event.set()
        time.sleep(seconds)

    monkeypatch.setattr(engine, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    return event


def refused_in_flight(response: Any, status: int = 409) -> bool:
    seconds = response["Retry-After"]
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"].endswith("/in-progress")
    assert response.json()["status"] == status
    assert seconds.isascii()
    assert seconds.isdigit()
    return bool(response.status_code == status)


@pytest.mark.row_locks
@every_way
def test_c1_a_twin_in_flight_is_refused_at_once(send: Any, after: Any, way: str) -> None:
    """C1, C10: 409 with Retry-After within 200 ms, while the first goes on to its 201."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        took = []
        for _ in range(5):
            started = time.perf_counter()
            assert refused_in_flight(send(way, key=key))
            took.append(time.perf_counter() - started)
        assert first.answer().status_code == 201

    # The quickest of five: a busy machine may delay one of them, a wait would delay all.
    assert min(took) < 0.2
    assert Order.objects.count() == 1


@pytest.mark.row_locks
@pytest.mark.parametrize("status", [409, 423, 503])
def test_c1_the_status_in_flight_can_be_chosen(
    send: Any, after: Any, settings: Any, status: int
) -> None:
    """C1, C10: IN_FLIGHT_STATUS."""
    settings.IDEMPOTENCY = {"IN_FLIGHT_STATUS": status}
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/apiview/", key=key):
        second = send("/apiview/", key=key)

    assert second.status_code == status
    assert refused_in_flight(second, status)
    assert Order.objects.count() == 1


@pytest.mark.row_locks
@every_way
def test_c2_a_waiting_twin_replays(
    send: Any, after: Any, settings: Any, waiting: threading.Event, way: str
) -> None:
    """C2: IN_FLIGHT="wait" blocks the second until the first is done."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait", "WAIT": timedelta(seconds=5)}
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        second = Background(way, key=key)
        assert waiting.wait(10)
        answers = first.answer(), second.answer()

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.row_locks
def test_c2_waiting_ends(send: Any, after: Any, settings: Any, waiting: threading.Event) -> None:
    """C2: past WAIT the second is refused as without waiting."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait", "WAIT": timedelta(milliseconds=100)}
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/apiview/", key=key):
        second = send("/apiview/", key=key)

    assert refused_in_flight(second)
    assert waiting.is_set()
    assert Order.objects.count() == 1


def _together(way: str, count: int, key: str) -> list[Any]:
    barrier = threading.Barrier(count)
    twins = [Background(way, key=key, before=barrier.wait) for _ in range(count)]
    return [twin.answer() for twin in twins]


@pytest.mark.row_locks
@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
@pytest.mark.parametrize("in_flight", ["reject", "wait"])
def test_c3_fifty_twins_make_one_row(send: Any, settings: Any, way: str, in_flight: str) -> None:
    """C3: exactly one row; each answer is 201 or 409; afterwards all replay."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": in_flight}
    key = new_key()

    answers = _together(way, 50, key)

    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}, statuses
    fresh = [a for a in answers if a.status_code == 201 and "Idempotent-Replayed" not in a]
    assert len(fresh) == 1
    assert len({a.content for a in answers if a.status_code == 201}) == 1
    assert Order.objects.count() == 1
    retry = send(way, key=key)
    assert (retry.status_code, retry["Idempotent-Replayed"]) == (201, "true")
    assert retry.content == fresh[0].content


def test_c9_twins_make_one_row_on_any_database(send: Any) -> None:
    """C9: SQLite included."""
    key = new_key()

    answers = _together("/apiview/", 8, key)

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert Order.objects.count() == 1
    assert send("/apiview/", key=key)["Idempotent-Replayed"] == "true"


@pytest.mark.row_locks
@every_way
def test_c4_a_refusal_in_flight_is_not_stored(send: Any, after: Any, way: str) -> None:
    """C4: the refused client gets the 201 later; refusals are counted."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        assert send(way, key=key).status_code == 409
        original = first.answer()

    later = send(way, key=key)
    assert (later.status_code, later.content) == (201, original.content)
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.get().in_flight_count == 1


@pytest.mark.row_locks
@every_way
def test_c5_a_waiter_executes_when_the_first_rolls_back(
    send: Any, after: Any, settings: Any, waiting: threading.Event, way: str
) -> None:
    """C5: the first fails while a twin waits; the twin executes, once."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait"}
    key, gate = new_key(), Gate(failure=RuntimeError)
    after(gate)

    with gate.hold(way, key=key) as first:
        second = Background(way, key=key)
        assert waiting.wait(10)
        assert first.answer().status_code == 500
        fresh = second.answer()

    assert fresh.status_code == 201
    assert "Idempotent-Replayed" not in fresh
    assert Order.objects.count() == 1


@pytest.mark.row_locks
def test_c6_different_keys_are_different_operations(send: Any, after: Any) -> None:
    """C6: the same body under two keys at once is two orders."""
    gate = Gate()
    after(gate)

    with gate.hold("/apiview/", key=new_key()) as first:
        assert send("/apiview/", key=new_key()).status_code == 201
        assert first.answer().status_code == 201

    assert Order.objects.count() == 2


@pytest.mark.row_locks
def test_c7_two_users_never_meet(send: Any, after: Any) -> None:
    """C7: the same key of A and B, in parallel: two rows, neither blocks."""
    (_, alice), (_, bob) = user_and_token("alice"), user_and_token("bob")
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/apiview/", key=key, Authorization=alice) as first:
        second = send("/apiview/", key=key, Authorization=bob)
        assert second.status_code == 201
        assert "Idempotent-Replayed" not in second
        assert first.answer().status_code == 201

    assert Order.objects.count() == 2


@pytest.mark.row_locks
@every_way
def test_c8_atomic_requests_make_no_twin_hang(
    send: Any, after: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """C8: C1 holds under ATOMIC_REQUESTS."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        assert refused_in_flight(send(way, key=key))
        assert first.answer().status_code == 201

    assert Order.objects.count() == 1


@pytest.mark.row_locks
def test_m15_another_request_in_flight_is_a_mismatch(send: Any, after: Any) -> None:
    """M15: parameters are compared first, so 422 and not 409."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/apiview/", key=key):
        assert send("/apiview/", {"sku": "tea", "qty": 2}, key=key).status_code == 422

    assert Order.objects.count() == 1


@pytest.mark.row_locks
@pytest.mark.urls("tests.conformance.views_more")
def test_h17_a_double_click_places_one_order(send: Any) -> None:
    """H17, C3: two submits of one form at once, the key in a hidden field."""
    barrier, key = threading.Barrier(2), new_key()
    statuses: list[int] = []

    def submit() -> None:
        try:
            barrier.wait()
            statuses.append(Client().post("/form/", {"sku": "tea", "once": key}).status_code)
        finally:
            connections.close_all()

    clicks = [threading.Thread(target=submit) for _ in range(2)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join(30)

    assert len(statuses) == 2
    assert set(statuses) <= {201, 409}
    assert Order.objects.count() == 1
