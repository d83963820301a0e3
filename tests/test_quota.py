"""S17: one client cannot fill the table with keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyKey
from django_idempotency.rows import KeyRows
from tests.conformance.test_first_and_replay import every_way
from tests.conformance.views_more import Gate, user_and_token
from tests.orders.models import Order
from tests.sender import Sender, new_key


@pytest.fixture(autouse=True)
def _three_at_most(settings: Any) -> None:
    settings.IDEMPOTENCY = {"KEYS_PER_SCOPE": 3}


@every_way
def test_s17_a_new_key_beyond_the_limit_is_refused(send: Any, way: str) -> None:
    """429, not run, not kept; known keys are answered as ever, and expired ones make room."""
    keys = [new_key() for _ in range(4)]
    assert [send(way, key=key).status_code for key in keys] == [201, 201, 201, 429]

    refused = send(way, key=keys[3])
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert send(way, key=keys[0])["Idempotent-Replayed"] == "true"
    assert send(way, {"sku": "oil"}, key=keys[0]).status_code == 422
    assert (Order.objects.count(), IdempotencyKey.objects.count()) == (3, 3)

    old = IdempotencyKey.objects.get(key=keys[0])
    old.created_at -= timedelta(days=2)
    old.expires_at -= timedelta(days=2)
    old.save()
    assert send(way, key=keys[3]).status_code == 201


def test_s17_each_scope_has_its_own(send: Any) -> None:
    """What one client used up another has still."""
    for name in ("alice", "bob"):
        _, token = user_and_token(name)
        answers = [send("/apiview/", key=new_key(), Authorization=token) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]


def test_s17_a_burst_does_not_slip_through(send: Any) -> None:
    """Twelve new keys at once: never more than the limit are executed."""

    def one(_number: int) -> int:
        try:
            return int(Sender()("/apiview/", key=new_key()).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(one, range(12)))

    assert set(statuses) <= {201, 429}
    assert Order.objects.count() == statuses.count(201) <= 3
    assert IdempotencyKey.objects.count() == statuses.count(201)


def test_s17_a_key_that_a_twin_has_used_is_not_given_back(send: Any, before: Any) -> None:
    """A claim beyond the limit is refused; its twin completed meanwhile, and is replayed."""
    key, twins = new_key(), []
    for _ in range(3):
        send("/plain/", key=new_key())
    before(KeyRows, "live_keys", lambda: twins.append(send("/plain/", key=key)))

    assert send("/plain/", key=key).status_code == 429

    retry = send("/plain/", key=key)
    assert (twins[0].status_code, retry.content) == (201, twins[0].content)
    assert retry["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 4


@pytest.mark.row_locks  # SQLite has one writer
def test_s17_a_refusal_does_not_wait_for_a_twin(send: Any, after: Any, before: Any) -> None:
    """A claim beyond the limit is refused at once, also while its twin is inside the view."""
    key, gate, held = new_key(), Gate(), []
    for _ in range(3):
        send("/plain/", key=new_key())
    after(gate)
    with ExitStack() as stack:
        before(
            KeyRows,
            "live_keys",
            lambda: held.append(stack.enter_context(gate.hold("/plain/", key=key))),
        )

        assert send("/plain/", key=key).status_code == 429
        assert held[0].answer().status_code == 201  # nobody opened the gate before

    assert send("/plain/", key=key)["Idempotent-Replayed"] == "true"
