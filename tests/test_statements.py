"""How many statements a request costs, beyond those of its view.

Counted as the database gets them, less those that only delimit transactions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
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


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """(what was written, ``on`` if its commit waits for the disk), filled in at the end."""
    seen: list[tuple[str, str]] = []
    tables = {"key": IdempotencyKey, "tally": KeyTally, "event": KeyEvent}
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute("CREATE TABLE waits (id serial, step text, waits text)")
        cursor.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO waits (step, waits) VALUES (lower(TG_OP) || ' ' || TG_ARGV[0], "
            "current_setting('synchronous_commit')); RETURN NEW; END $$"
        )
        for name, model in tables.items():
            cursor.execute(
                f"CREATE TRIGGER note BEFORE INSERT OR UPDATE ON {model._meta.db_table} "
                f"FOR EACH ROW EXECUTE FUNCTION note({name})"
            )
        try:
            yield seen
            cursor.execute("SELECT step, waits FROM waits ORDER BY id")
            seen.extend(cursor.fetchall())
        finally:
            for model in tables.values():
                cursor.execute(f"DROP TRIGGER note ON {model._meta.db_table}")
            cursor.execute("DROP FUNCTION note()")
            cursor.execute("DROP TABLE waits")
            connection.close()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@both_ways
def test_only_the_request_itself_waits_for_the_disk(way: str) -> None:
    """A lost claim is claimed again, a lost count is a count: neither is worth a flush."""
    send, key = Sender(), new_key()
    with watched() as seen:
        for body, status in ((None, 201), (None, 201), ({"sku": "tea"}, 422)):
            assert send(way, body, key=key).status_code == status

    counted = [("insert tally", "off"), ("insert event", "off")]
    again = [("insert tally", "off"), ("update tally", "off"), ("insert event", "off")]
    assert seen == [("insert key", "off"), ("update key", "on"), *counted, *again]
