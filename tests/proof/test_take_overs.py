"""A free key is given to another request, at a moment when somebody else wants it, too."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_idempotency import store
from django_idempotency.models import IdempotencyKey
from django_idempotency.store import Store
from tests.conformance.views_more import Background, Gate
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.row_locks  # SQLite's one writer takes over while nobody else can look

OTHER = {"sku": "tea", "qty": 2}
PATIENCE = 10  # seconds
ways = pytest.mark.parametrize("way", ["/apiview/", "/plain/"])


def fail(request: Any, order: Order) -> None:
    raise RuntimeError


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


@pytest.fixture
def free_key(send: Any, after: Any, request: Any) -> str:
    """A key that names another request, or an old one, and that nobody holds."""
    key = new_key()
    after(fail if request.param == "failed" else usual)
    send("/plain/", key=key)
    past = timezone.now() - timedelta(hours=30)
    if request.param == "expired":
        IdempotencyKey.objects.update(created_at=past, expires_at=past + timedelta(hours=24))
    after(usual)
    return key


@pytest.fixture
def second_look(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Events: a request that wants the key waits to look again; it may."""
    events = SimpleNamespace(awaited=threading.Event(), allowed=threading.Event())

    def sleep(seconds: float) -> None:
        events.awaited.set()
        assert events.allowed.wait(PATIENCE)

    monkeypatch.setattr(store, "time", SimpleNamespace(sleep=sleep))
    return events


@contextmanager
def taking_over(key: str, fingerprint: str) -> Iterator[None]:
    """Somebody takes the key over meanwhile; committed at the end of the block."""
    with transaction.atomic():
        IdempotencyKey.objects.filter(key=key).update(
            fingerprint=fingerprint,
            seed=uuid.uuid4(),
            attempts=2,
            completed_at=None,
            response_status=None,
            response_headers=None,
            response_body=None,
            duration_ms=None,
            expires_at=timezone.now() + timedelta(hours=24),
        )
        yield


@ways
def test_nobody_takes_over_a_first_execution_that_completed_meanwhile(
    send: Any, after: Any, before: Any, way: str
) -> None:
    """Another body finds a key unfinished; before it takes it, the first execution completes."""
    key, gate = new_key(), Gate()
    after(gate)
    with gate.hold(way, key=key) as first:
        before(Store, "_taken_over", first.answer)

        assert send(way, OTHER, key=key).status_code == 422

    assert first.answer().status_code == 201
    assert Order.objects.get().qty == 1


@pytest.mark.parametrize("free_key", ["failed", "expired"], indirect=True)
@pytest.mark.parametrize(("body", "status"), [(OTHER, 409), ({"sku": "tea", "qty": 3}, 422)])
def test_who_meets_a_take_over_hears_whose_the_key_is_then(
    send: Any, free_key: str, second_look: Any, body: Any, status: int
) -> None:
    """A twin of the request that takes over is in flight, not a conflict; a third is one."""
    send("/plain/", OTHER, key=(like := new_key()))
    fingerprint = IdempotencyKey.objects.get(key=like).fingerprint

    with taking_over(free_key, fingerprint):
        rival = Background("/plain/", body, key=free_key)
        assert second_look.awaited.wait(PATIENCE)
    second_look.allowed.set()

    if connection.vendor == "mysql":
        status = 201  # it asks for the lock again, and nobody runs what has been taken over
    assert rival.answer().status_code == status


@pytest.mark.parametrize("free_key", ["expired"], indirect=True)
def test_an_expired_key_that_is_held_is_in_flight(
    send: Any, free_key: str, second_look: Any
) -> None:
    """Whose it will be, nobody knows yet: 409 asks for a retry, where 422 would refuse for good."""
    second_look.allowed.set()
    with taking_over(free_key, "f" * 64):
        rival = Background("/plain/", OTHER, key=free_key).answer()

    assert (rival.status_code, rival["Retry-After"]) == (409, "1")
    assert Order.objects.count() == 1
