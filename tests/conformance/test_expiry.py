"""Rows T of the specification: what becomes of old keys. Rows are aged by an UPDATE."""

from __future__ import annotations

import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency import rows
from django_idempotency.models import IdempotencyKey, KeyEvent
from tests.conformance.test_first_and_replay import every_way
from tests.conformance.views_more import Gate
from tests.orders.models import Order
from tests.sender import new_key


def age(by: timedelta = timedelta(hours=25)) -> None:
    """Make all keys older."""
    for record in IdempotencyKey.objects.all():
        IdempotencyKey.objects.filter(pk=record.pk).update(
            created_at=record.created_at - by, expires_at=record.expires_at - by
        )


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@every_way
def test_t1_t3_an_expired_key_executes_as_new(send: Any, way: str) -> None:
    """T1, T3: past its 24 hours, purged or not, the key is a new one, and replays again."""
    key = new_key()
    first = send(way, key=key)
    send(way, key=key)
    age()

    second, third = send(way, key=key), send(way, key=key)

    assert (second.status_code, is_replay(second)) == (201, False)
    assert second.content != first.content
    assert (third.content, is_replay(third)) == (second.content, True)
    assert Order.objects.count() == 2
    record = IdempotencyKey.objects.get()
    assert record.replay_count == 1
    assert record.attempts == 1
    assert record.created_at > timezone.now() - timedelta(hours=1)
    assert record.expires_at > timezone.now() + timedelta(hours=23)


@every_way
def test_t1_just_before_its_end_a_key_replays(send: Any, way: str) -> None:
    """T1: 23 h 59 min: a replay."""
    key = new_key()
    send(way, key=key)
    age(timedelta(hours=23, minutes=59))

    assert is_replay(send(way, key=key))
    assert Order.objects.count() == 1


def test_t1_the_retention_can_be_chosen(send: Any, settings: Any) -> None:
    """T1: RETENTION."""
    settings.IDEMPOTENCY = {"RETENTION": timedelta(days=7)}
    key = new_key()
    send("/apiview/", key=key)
    age(timedelta(days=6))
    assert is_replay(send("/apiview/", key=key))
    age(timedelta(days=2))

    assert not is_replay(send("/apiview/", key=key))
    assert Order.objects.count() == 2


def test_t1_an_expired_key_may_be_used_for_another_request(send: Any) -> None:
    """T1: executes as new: the old request is no measure."""
    key = new_key()
    send("/apiview/", key=key)
    age()

    assert send("/apiview/", {"sku": "tea", "qty": 2}, key=key).status_code == 201
    assert Order.objects.count() == 2


@every_way
@pytest.mark.parametrize("body", [None, {"sku": "tea", "qty": 2}])
def test_t2_an_expired_key_can_be_refused(send: Any, settings: Any, way: str, body: Any) -> None:
    """T2: ON_EXPIRED="reject": 422, no row, before and after the purge."""
    settings.IDEMPOTENCY = {"ON_EXPIRED": "reject"}
    key = new_key()
    send(way, key=key)
    age()

    for _ in range(2):
        refused = send(way, body, key=key)
        assert refused.status_code == 422
        if body is None:
            assert refused.json()["type"].endswith("/key-expired")
        call_command("purge_idempotency_keys")
    assert Order.objects.count() == 1


def test_t4_the_purge_takes_finished_expired_keys_in_batches(send: Any) -> None:
    """T4: batches; a live key stays and replays."""
    for _ in range(5):
        send("/apiview/", key=new_key())
    age()
    live = new_key()
    send("/apiview/", key=live)
    send("/apiview/", key=live)

    with CaptureQueriesContext(connection) as captured:
        call_command("purge_idempotency_keys", batch_size=2)

    table = connection.ops.quote_name(IdempotencyKey._meta.db_table)
    deletes = [q["sql"] for q in captured.captured_queries if q["sql"].startswith("DELETE")]
    assert sum(table in text for text in deletes) >= 3  # two, two and one
    assert IdempotencyKey.objects.get().key == live
    assert KeyEvent.objects.count() == 1
    assert is_replay(send("/apiview/", key=live))


@pytest.mark.row_locks
@every_way
def test_t4_t5_a_key_in_flight_outlives_its_expiry(send: Any, after: Any, way: str) -> None:
    """T4, T5: neither purge nor twin touches it; it finishes, and its answer is the first's."""
    key, gate = new_key(), Gate()
    after(gate)
    usual_lock = rows.KeyRows.lock
    aged: list[bool] = []

    def lock_aged(self: Any) -> Any:
        # The row cannot be updated once it is locked, so it is aged just before.
        if not aged:
            aged.append(True)
            age()
        return usual_lock(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows.KeyRows, "lock", lock_aged)
        with gate.hold(way, key=key) as first:
            call_command("purge_idempotency_keys")
            assert IdempotencyKey.objects.count() == 1
            assert send(way, key=key).status_code == 409
            assert first.answer().status_code == 201

    assert aged
    assert Order.objects.count() == 1


@every_way
def test_t6_the_expiry_can_be_exposed(send: Any, settings: Any, way: str) -> None:
    """T6: EXPOSE_EXPIRY=True: the same instant on first answer and replay."""
    settings.IDEMPOTENCY = {"EXPOSE_EXPIRY": True}
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert is_replay(retry)
    expires = parsedate_to_datetime(retry["Idempotency-Expires"])
    assert first["Idempotency-Expires"] == retry["Idempotency-Expires"]
    record = IdempotencyKey.objects.get()
    assert expires == record.expires_at.replace(microsecond=0)


@every_way
def test_t6_by_default_nothing_is_exposed(send: Any, way: str) -> None:
    """T6: EXPOSE_EXPIRY=False."""
    key = new_key()

    for _ in range(2):
        assert "Idempotency-Expires" not in send(way, key=key)


@every_way
def test_t1_a_retry_long_after_a_failure_is_replayable_afterwards(
    send: Any, after: Any, way: str
) -> None:
    """T1: the response of an old, unfinished key is kept for a whole retention of its own."""
    key = new_key()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send(way, key=key).status_code == 500
    past = timezone.now() - timedelta(hours=30)
    IdempotencyKey.objects.update(created_at=past, expires_at=past + timedelta(hours=24))
    after(lambda request, order: None)

    assert send(way, key=key).status_code == 201
    assert send(way, key=key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@every_way
def test_t1_a_view_that_outlasts_its_retention_is_replayable_afterwards(
    send: Any, after: Any, settings: Any, way: str
) -> None:
    """T1: however long it took, what was returned is kept for a whole retention."""
    retention = timedelta(milliseconds=200)
    settings.IDEMPOTENCY = {"RETENTION": retention}
    after(lambda request, order: time.sleep(0.25))

    assert send(way, key=new_key()).status_code == 201

    stored = IdempotencyKey.objects.get()
    assert stored.completed_at is not None
    assert stored.expires_at - stored.completed_at > retention * 0.9
