"""Between two statements of one request the key is deleted, begun or taken over by another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from django_idempotency import upkeep
from django_idempotency.models import IdempotencyKey
from django_idempotency.store import Store
from tests.orders.models import Order
from tests.sender import new_key

OTHER = {"sku": "tea", "qty": 2}
PATIENCE = 10  # seconds


def fail(request: Any, order: Order) -> None:
    raise RuntimeError


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


@contextmanager
def deleting(act: Callable[[], Any], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """While ``act`` has locked keys and is about to delete them."""
    locked, go_on = threading.Event(), threading.Event()
    delete = upkeep._delete

    def pausing(*args: Any) -> None:
        locked.set()
        assert go_on.wait(PATIENCE)
        delete(*args)

    def work() -> None:
        try:
            act()
        finally:
            connections.close_all()

    patch.setattr(upkeep, "_delete", pausing)
    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert locked.wait(PATIENCE)
        yield
    finally:
        go_on.set()
        worker.join()


@pytest.mark.postgres  # elsewhere nothing tells upkeep's lock from that of a request
@pytest.mark.parametrize(
    "act",
    [
        lambda: upkeep.purge(limit=1000),
        lambda: upkeep.forget([IdempotencyKey.objects.get().pk]),
    ],
    ids=["purge", "forget"],
)
def test_a_key_that_is_being_deleted_refuses_nobody_for_good(
    send: Any, after: Any, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]
) -> None:
    """Nothing counts under it, so another body is asked to come again, and then executed."""
    key = new_key()
    after(fail)
    assert send("/plain/", key=key).status_code == 500
    past = timezone.now() - timedelta(hours=30)
    IdempotencyKey.objects.update(created_at=past, expires_at=past + timedelta(hours=24))
    after(usual)

    with deleting(act, monkeypatch):
        assert send("/plain/", OTHER, key=key).status_code == 409

    assert send("/plain/", OTHER, key=key).status_code == 201


def test_nobody_begins_again_what_is_another_requests_by_now(
    send: Any, after: Any, before: Any
) -> None:
    """It was taken over, and failed: no execution is counted, and no conflict is told."""
    key = new_key()
    after(fail)
    send("/plain/", key=key)
    others: list[int] = []
    before(
        Store, "_begin_again", lambda: others.append(send("/plain/", OTHER, key=key).status_code)
    )

    assert send("/plain/", key=key).status_code == 409

    assert others == [500]
    (seen,) = IdempotencyKey.objects.with_counts()
    assert seen.attempts == seen.failure_count == 2


def test_crashes_of_a_forgotten_key_are_not_those_of_the_next(
    send: Any, after: Any, before: Any, settings: Any
) -> None:
    """Forgotten and begun anew after it was seen: what was seen counts for nothing."""
    settings.IDEMPOTENCY = {"MAX_CRASHES": 3}
    key = new_key()
    after(fail)
    for _ in range(4):
        send("/plain/", key=key)

    def forgotten_and_begun() -> None:
        upkeep.forget([IdempotencyKey.objects.get().pk])
        assert send("/plain/", key=key).status_code == 500

    before(Store, "_begin_again", forgotten_and_begun)
    assert send("/plain/", key=key).status_code == 500  # executed, and failed

    assert IdempotencyKey.objects.get().attempts == 2
