"""Rows F, R of the specification, for every way in."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from django_idempotency.models import IdempotencyKey, KeyEvent
from tests.orders.models import Order
from tests.sender import new_key

WAYS = [
    "/apiview/",
    "/viewset/",
    "/viewset/reorder/",
    "/function/",
    "/plain/",
    "/class/",
    "/async/",
]
every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_r1_a_retry_gets_the_first_response_byte_for_byte(send: Any, way: str) -> None:
    """F3, R1: one execution; the retry has status, body, headers and the marker."""
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert first.status_code == 201, first.content
    assert "Idempotent-Replayed" not in first
    assert first["Idempotency-Key"] == key
    assert (retry.status_code, retry.content) == (201, first.content)
    assert retry["Idempotent-Replayed"] == "true"
    assert retry["Location"] == first["Location"]
    assert Order.objects.count() == 1


@every_way
def test_r3_replays_are_counted_exactly(send: Any, way: str) -> None:
    """R3: ten replays, one record, a count of ten."""
    key = new_key()

    for _ in range(11):
        send(way, key=key)

    record = IdempotencyKey.objects.get()
    assert record.replay_count == 10
    assert record.last_replayed_at is not None
    assert KeyEvent.objects.filter(kind="replayed").count() == 10


@every_way
def test_m1_another_body_is_refused_and_recorded(send: Any, way: str) -> None:
    """M1: 422, no new row, counted, and the differing field is named without its value."""
    key = new_key()
    send(way, key=key)

    refused = send(way, {"sku": "tea", "qty": 2}, key=key)

    assert refused.status_code == 422
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["type"].endswith("/key-reused")
    assert Order.objects.count() == 1
    record = IdempotencyKey.objects.get()
    assert record.conflict_count == 1
    event = KeyEvent.objects.get()
    assert event.differences == '{"qty": "changed"}'


@every_way
def test_e5_an_exception_undoes_everything_and_frees_the_key(
    send: Any, after: Any, way: str
) -> None:
    """E5: 500, no row; the retry runs."""
    key = new_key()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    after(lambda request, order: None)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.get().attempts == 2


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/"])
def test_e1_a_raised_400_is_not_stored_and_a_corrected_body_runs(
    send: Any, after: Any, way: str
) -> None:
    """E1: the first is rolled back, the corrected body runs under the same key."""
    key = new_key()

    def reject(request: Any, order: Order) -> None:
        raise ValidationError({"qty": "too many"})

    after(reject)
    assert send(way, {"sku": "tea", "qty": 9}, key=key).status_code == 400
    assert not Order.objects.exists()
    after(lambda request, order: None)

    assert send(way, {"sku": "tea", "qty": 1}, key=key).status_code == 201
    assert Order.objects.get().qty == 1
