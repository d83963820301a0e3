"""What row locks do in the moments between two statements; InnoDB has most of the traps."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from django_idempotency import store
from django_idempotency.models import IdempotencyKey
from django_idempotency.rows import KeyRows
from tests.conformance.views_more import Gate
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.row_locks

every_kind = pytest.mark.parametrize("way", ["/apiview/", "/plain/"])


@every_kind
def test_a_twin_that_looked_too_early_does_not_wait_for_the_view(
    send: Any, after: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It saw no key, then collides with one whose request runs: 409 soon, not after the view."""
    key, gate = new_key(), Gate()
    after(gate)
    usual, looks = KeyRows.look, []

    def look_too_early(self: KeyRows) -> Any:
        looks.append(1)
        return None if len(looks) == 1 else usual(self)

    with gate.hold(way, key=key) as first:
        monkeypatch.setattr(KeyRows, "look", look_too_early)
        started = time.perf_counter()
        second = send(way, key=key)
        took = time.perf_counter() - started
        assert first.answer().status_code == 201

    assert second.status_code == 409
    assert took < 3  # InnoDB's own patience is 50 s
    assert Order.objects.count() == 1


@every_kind
def test_a_swallowed_deadlock_is_no_phantom_success(
    send: Any, after: Any, caplog: Any, way: str
) -> None:
    """InnoDB has rolled everything back and goes on in a new transaction, without a word."""
    key, lost = new_key(), []
    left, right = (Order.objects.create(sku=f"row {n}") for n in range(2))
    other_has_right, stop = threading.Event(), threading.Event()

    def other() -> None:
        try:
            with transaction.atomic():
                # The deadlock's victim is whoever has written less.
                Order.objects.bulk_create([Order(sku="weight") for _ in range(50)])
                Order.objects.select_for_update().get(pk=right.pk)
                other_has_right.set()
                assert stop.wait(20)
                Order.objects.select_for_update().get(pk=left.pk)
                transaction.set_rollback(True)
        finally:
            connections.close_all()

    def behave(request: Any, order: Order) -> None:
        thread = threading.Thread(target=other)
        thread.start()
        assert other_has_right.wait(20)
        Order.objects.select_for_update().get(pk=left.pk)
        # PostgreSQL's victim is whoever has waited for a second, so we wait first.
        threading.Timer(0.3, stop.set).start()
        try:
            Order.objects.select_for_update().get(pk=right.pk)
        except OperationalError as error:
            lost.append(error)
        thread.join(20)

    after(behave)
    first = send(way, key=key)
    assert lost
    assert first.status_code == 500
    assert not Order.objects.filter(sku="tea").exists()
    assert "transaction.atomic()" in caplog.text
    after(lambda request, order: None)

    assert send(way, key=key).status_code == 201
    assert Order.objects.filter(sku="tea").count() == 1


@every_kind
def test_an_error_that_rolls_nothing_back_may_be_handled(send: Any, after: Any, way: str) -> None:
    """The wire is stretched for lost transactions only: a row that is locked is no reason."""
    taken = Order.objects.create(sku="row")
    seen: list[OperationalError] = []

    def behave(request: Any, order: Order) -> None:
        def hold() -> None:
            try:
                with transaction.atomic():
                    Order.objects.select_for_update().get(pk=taken.pk)
                    has_it.set()
                    assert let_go.wait(20)
            finally:
                connections.close_all()

        has_it, let_go = threading.Event(), threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        assert has_it.wait(20)
        try:
            with transaction.atomic():
                Order.objects.select_for_update(nowait=True).get(pk=taken.pk)
        except OperationalError as error:
            seen.append(error)
        finally:
            let_go.set()
            thread.join(20)

    after(behave)
    key = new_key()

    assert send(way, key=key).status_code == 201
    assert seen
    assert send(way, key=key)["Idempotent-Replayed"] == "true"
    assert Order.objects.filter(sku="tea").count() == 1


@pytest.mark.parametrize("times", [1, store.ATTEMPTS_TO_CLAIM])
def test_a_deadlock_before_the_view_begins_again(
    send: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """40001, 1213: another pass, up to the limit; then 503, and nothing has run."""
    usual, failures = KeyRows.claim, []

    def claim(self: KeyRows) -> Any:
        if len(failures) < times:
            failures.append(1)
            _raise_serialization_failure()
        return usual(self)

    monkeypatch.setattr(KeyRows, "claim", claim)
    answer = send("/plain/", key=new_key())

    assert len(failures) == times
    survived = times < store.ATTEMPTS_TO_CLAIM
    assert answer.status_code == (201 if survived else 503)
    assert Order.objects.count() == survived
    assert IdempotencyKey.objects.count() == survived


def _raise_serialization_failure() -> None:
    statement = "DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$"
    if connection.vendor == "mysql":
        statement = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'x'"
    with connection.cursor() as cursor:
        cursor.execute(statement)
