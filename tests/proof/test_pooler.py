"""Prepared statements through PgBouncer, which knows them from 1.21 on; before, they break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.proof.pooler import knows_prepared
from tests.sender import Sender, new_key
from tests.test_races import together

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

THREADS, KEYS = 6, 5  # twice as many threads as the pooler has connections
HONEST = {201, 409}


@pytest.fixture
def prepared(pooler: dict[str, Any], transactional_db: None) -> Iterator[None]:
    """Every statement is prepared when it is first sent, on connections that are kept."""
    entry = connections.settings["default"]
    options = {**entry.get("OPTIONS", {}), "server_side_binding": True, "prepare_threshold": 0}
    changes = {**pooler, "CONN_MAX_AGE": None, "OPTIONS": options}
    connections.close_all()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setitem(entry, name, value)
        yield
        connections.close_all()


@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
def test_prepared_statements_through_a_pooler(prepared: None, way: str) -> None:
    """One effect a key, and each 201 is that effect, whether or not the pooler knows them."""
    keys = [new_key() for _ in range(KEYS)]

    batches = together(
        THREADS, lambda _, send: [(key, send(way, key=key)) for key in keys for _ in range(2)]
    )

    answers = [answer for batch in batches for answer in batch]
    seen = Counter(response.status_code for _, response in answers)
    assert set(seen) <= (HONEST if knows_prepared() else {*HONEST, 500, 503})
    connections.close_all()  # what the pooler cannot carry must not hide what is stored
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "OPTIONS", {})
        bodies = {key: Sender()(way, key=key).content for key in keys}
        assert Order.objects.count() == IdempotencyKey.objects.count() == KEYS
        connections.close_all()
    for key, response in answers:
        assert response.status_code != 201 or response.content == bodies[key]
