"""How many statements a request costs, beyond those of its view.

Counted as the database gets them, less those that only delimit transactions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from tests.orders.models import Order
from tests.sender import Sender, new_key

PATIENCE = 20  # seconds; a wait that takes as long has failed
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")

both_ways = pytest.mark.parametrize("way", ["/plain/", "/apiview/"])


def statements(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What ``act`` returns, and the statements that it caused in this thread."""
    with CaptureQueriesContext(connection) as captured:
        result = act()
    texts = [query["sql"] for query in captured.captured_queries]
    return result, [text for text in texts if not text.startswith(CONTROL)]


@pytest.fixture
def own(send: Sender) -> Callable[[str], int]:
    """How many statements a view runs by itself: of a request without a key."""

    def count(way: str) -> int:
        response, texts = statements(lambda: send(way))
        assert response.status_code == 201
        return len(texts)

    return count


@both_ways
def test_a_first_execution_adds_claim_lock_and_store(send: Sender, own: Any, way: str) -> None:
    """Three more than the view, in one transaction."""
    send(way, key=new_key())  # what is cached per process is there

    response, texts = statements(lambda: send(way, key=new_key()))

    assert response.status_code == 201
    # No other has a statement that inserts or, failing that, reads: they look first.
    added = 3 if connection.vendor == "postgresql" else 4
    assert len(texts) == own(way) + added, texts


@both_ways
def test_a_replay_takes_two_statements(send: Sender, way: str) -> None:
    """One finds the response, one counts it."""
    key = new_key()
    send(way, key=key)

    response, texts = statements(lambda: send(way, key=key))

    assert response["Idempotent-Replayed"] == "true"
    # No other can write tally and event in one statement.
    assert len(texts) == (2 if connection.vendor == "postgresql" else 3), texts


@both_ways
def test_a_conflict_takes_no_more_than_three(send: Sender, way: str) -> None:
    """As a replay: one finds the key, one or two count and describe the refusal."""
    key = new_key()
    send(way, key=key)

    response, texts = statements(lambda: send(way, {"sku": "tea", "qty": 2}, key=key))

    assert response.status_code == 422
    assert len(texts) <= 3, texts


@pytest.mark.row_locks  # SQLite has one writer: a duplicate waits until the first has finished
@both_ways
def test_a_refusal_in_flight_takes_no_more_than_three(send: Sender, after: Any, way: str) -> None:
    """Claim, lock, tally, while another request is inside the view; elsewhere also the event."""
    key = new_key()
    inside, go_on = threading.Event(), threading.Event()

    def hold(request: Any, order: Order) -> None:
        inside.set()
        go_on.wait(PATIENCE)

    def first() -> None:
        try:
            answers.append(Sender()(way, key=key).status_code)
        finally:
            connections.close_all()

    after(hold)
    answers: list[int] = []
    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(PATIENCE)
        response, texts = statements(lambda: send(way, key=key))
    finally:
        go_on.set()
        thread.join(PATIENCE)

    assert response.status_code == 409
    assert answers == [201]
    assert len(texts) <= (3 if connection.vendor == "postgresql" else 4), texts
