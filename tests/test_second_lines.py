"""What holds even where the line before it has failed: each statement, each transaction alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from django_idempotency.models import IdempotencyKey, KeyTally
from django_idempotency.protocol import KeyedRequest, StoredResponse
from django_idempotency.rows import KeyRows
from django_idempotency.store import Store
from tests.factories import IdempotencyKeyFactory
from tests.orders.models import Order
from tests.sender import new_key

RETENTION = timedelta(hours=24)
FIRST, SECOND = (StoredResponse(status=201, body=body) for body in (b"first", b"second"))

# An execution that took long stores its response with another statement.
soon_and_late = pytest.mark.parametrize(
    "took", [timedelta(milliseconds=5), RETENTION], ids=["soon", "late"]
)


def request_of(row: IdempotencyKey) -> KeyedRequest:
    """A retry of the request that the row was made for."""
    return KeyedRequest(
        scope=row.scope,
        key=row.key,
        fingerprints=(row.fingerprint,),
        method=row.method,
        path=row.path,
        route=row.route,
        retention=RETENTION,
    )


def rows_of(row: IdempotencyKey) -> KeyRows:
    return KeyRows(request_of(row), "default")


def milliseconds(took: timedelta) -> int:
    return took // timedelta(milliseconds=1)


@pytest.mark.django_db
@soon_and_late
def test_a_stored_response_is_never_replaced(took: timedelta) -> None:
    """A second execution of one key, however it came to run, cannot overwrite what was told."""
    row = IdempotencyKeyFactory()
    rows, duration = rows_of(row), milliseconds(took)

    assert rows.complete(FIRST, duration_ms=duration)
    assert not rows.complete(SECOND, duration_ms=duration)

    found = rows.look()
    assert found is not None
    assert found.response == FIRST


@pytest.mark.django_db(transaction=True)
@soon_and_late
def test_an_execution_that_cannot_store_its_response_is_undone(took: timedelta) -> None:
    """The key has a response already: the writes of the second execution go."""
    row = IdempotencyKeyFactory()
    rows_of(row).complete(FIRST, duration_ms=1)
    store = Store(request_of(row))

    def execute_again() -> None:
        with transaction.atomic():
            Order.objects.create(sku="a second effect")
            store.complete(SECOND, duration_ms=milliseconds(took))

    with pytest.raises(TransactionManagementError):
        execute_again()

    assert not Order.objects.exists()
    row.refresh_from_db()
    assert bytes(row.response_body) == b"first"


@pytest.mark.django_db
def test_a_take_over_does_not_rely_on_an_old_look() -> None:
    """A key that was given to another since, and finished, is not taken: the seed tells."""
    row = IdempotencyKeyFactory(completed=True, expired=True)
    mine, another = rows_of(row), rows_of(row)
    seen = mine.look()
    assert seen is not None
    assert another.take_over(seen).ours
    another.complete(FIRST, duration_ms=1)

    found = mine.take_over(seen)

    assert (found.ours, found.busy, found.response) == (False, False, FIRST)


@pytest.mark.django_db(transaction=True)
def test_the_transaction_of_a_request_is_the_outermost() -> None:
    """Inside another it could be rolled back after its answer was given, so it does not open."""
    row = IdempotencyKeyFactory()
    store = Store(request_of(row))
    seen = store.rows.look()
    assert seen is not None

    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), store.exclusive(seen):
        Order.objects.create(sku="tea")

    assert not Order.objects.exists()


@pytest.mark.parametrize("other", [{"key": "another"}, {"scope": "user:another"}], ids=str)
def test_two_keys_with_one_digest_never_share_a_response(
    send: Any, other: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whose id is taken by another scope or key is refused, and told to the log."""
    key = new_key()
    send("/plain/", key=key)
    IdempotencyKey.objects.update(**other)

    assert send("/plain/", key=key).status_code == 422
    assert "share the id" in caplog.text
    assert Order.objects.count() == 1


@pytest.mark.row_locks  # a server, whose connections can end
def test_a_failure_is_counted_though_its_connection_is_gone(send: Any, after: Any) -> None:
    """The database ends the connection during the view; what follows uses the one after it."""
    mysql = connection.vendor == "mysql"
    end = "KILL CONNECTION_ID()" if mysql else "SELECT pg_terminate_backend(pg_backend_pid())"

    def hang_up(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute(end)

    after(hang_up)

    assert send("/plain/", key=new_key()).status_code == 503
    assert KeyTally.objects.get().failure_count == 1
