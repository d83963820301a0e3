from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.contrib.outbound import OutboundIntent
from django_idempotency.contrib.outbound.handlers import handlers
from tests.orders.models import Order


@pytest.fixture
def order(transactional_db: None) -> Order:
    return Order.objects.create(sku="tea")


@pytest.fixture
def intent(order: Order) -> OutboundIntent:
    return OutboundIntent.for_object(order, "charge")


@pytest.fixture
def later() -> Callable[[OutboundIntent, timedelta], None]:
    """Let time pass for one intent: all that is known of it moves into the past."""

    def move(intent: OutboundIntent, by: timedelta) -> None:
        past: dict[str, Any] = {"created_at": intent.created_at - by}
        for name in ("first_sent_at", "last_attempt_at", "next_attempt_at", "resolved_at"):
            if getattr(intent, name) is not None:
                past[name] = getattr(intent, name) - by
        OutboundIntent.objects.filter(pk=intent.pk).update(**past)
        intent.refresh_from_db()

    return move


@pytest.fixture(autouse=True)
def _no_handlers() -> Iterator[None]:
    """Each test registers its own."""
    kept = dict(handlers)
    handlers.clear()
    yield
    handlers.clear()
    handlers.update(kept)
