"""Rows X8 and E10 of the specification: a COMMIT lost on either side, and a real deadlock."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from tests.commit_proxy import losing_the_commit
from tests.conformance.views_more import Background
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    """Retries wait for PostgreSQL to notice that its client is gone, some milliseconds."""
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait", "WAIT": timedelta(seconds=2)}


@pytest.fixture(params=["/apiview/", "/function/", "/plain/", "/async/", "atomic /apiview/"])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of each kind of view, and one under ATOMIC_REQUESTS."""
    atomic, _, path = request.param.rpartition(" ")
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", bool(atomic))
    return str(path)


def assert_unknown(response: Any) -> None:
    assert response.status_code == 503, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"].endswith("/outcome-unknown")
    assert response["Retry-After"].isdigit()


def test_x8_lost_before_the_commit_nothing_happened(send: Any, after: Any, way: str) -> None:
    """X8: the server never saw the COMMIT: no row; the retry executes, once."""
    key, called = new_key(), []
    if way != "/async/":  # Django offers on_commit() to synchronous code only
        after(lambda request, order: transaction.on_commit(lambda: called.append(order)))
    with losing_the_commit("before") as proxy:
        first = send(way, key=key)

    assert proxy.fired.is_set()
    assert_unknown(first)
    assert not called
    assert not Order.objects.exists()

    retry = send(way, key=key)

    assert retry.status_code == 201
    assert "Idempotent-Replayed" not in retry
    assert Order.objects.count() == 1
    assert len(called) == (0 if way == "/async/" else 1)
    assert send(way, key=key)["Idempotent-Replayed"] == "true"


def test_x8_lost_after_the_commit_it_took_place(send: Any, way: str) -> None:
    """X8: committed and not acknowledged: one row; the retry replays its response."""
    key = new_key()
    with losing_the_commit("after") as proxy:
        first = send(way, key=key)

    assert proxy.fired.is_set()
    assert_unknown(first)
    order = Order.objects.get()

    retry = send(way, key=key)

    assert (retry.status_code, retry["Idempotent-Replayed"]) == (201, "true")
    assert retry.json()["id"] == order.pk
    assert Order.objects.count() == 1


def test_x8_another_request_is_refused_on_either_side(send: Any) -> None:
    """X8, M1: after the commit the key is used; before it, it is free for another body."""
    for side, status, rows in (("after", 422, 1), ("before", 201, 2)):
        key = new_key()
        with losing_the_commit(side):  # type: ignore[arg-type]
            assert_unknown(send("/plain/", key=key))

        other = send("/plain/", {"sku": "tea", "qty": 2}, key=key)

        assert other.status_code == status
        assert Order.objects.count() == rows


def test_e10_a_real_deadlock_is_retried_to_success(send: Any, after: Any) -> None:
    """E10: two requests that lock two rows crosswise: one is told to retry, both end as one."""
    # PostgreSQL looks for deadlocks after a second.
    rows = [Order.objects.create(sku=sku) for sku in ("left", "right")]
    both_hold_one = threading.Barrier(2, timeout=20)

    def behave(request: Any, order: Order) -> None:
        mine, other = rows if order.qty == 1 else rows[::-1]
        Order.objects.select_for_update().get(pk=mine.pk)
        if not both_hold_one.broken:
            both_hold_one.wait()
        Order.objects.select_for_update().get(pk=other.pk)

    after(behave)
    requests = [({"sku": "tea", "qty": qty}, new_key()) for qty in (1, 2)]
    running = [Background("/apiview/", body, key=key) for body, key in requests]
    statuses = sorted(request.answer().status_code for request in running)
    both_hold_one.abort()

    assert statuses == [201, 503]
    retries = [send("/apiview/", body, key=key) for body, key in requests]
    assert [retry.status_code for retry in retries] == [201, 201]
    assert sorted("Idempotent-Replayed" in retry for retry in retries) == [False, True]
    assert Order.objects.filter(sku="tea").count() == 2
