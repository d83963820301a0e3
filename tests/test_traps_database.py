"""Traps of databases: a transaction that ends without a word, a server that hangs up."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from django_idempotency import rows
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key

sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="asks how SQLite gives up")


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


def fill_the_disk(order: Order) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
        cursor.execute(f"PRAGMA max_page_count={pages}")
        try:
            cursor.execute("INSERT INTO orders_order (sku, qty) VALUES (%s, 1)", ["x" * 2_000_000])
        finally:
            cursor.execute("PRAGMA max_page_count=1073741823")


def roll_back(order: Order) -> None:
    with connection.cursor() as cursor:
        statement = "INSERT OR ROLLBACK INTO orders_order (id, sku, qty) VALUES (%s, 'x', 1)"
        cursor.execute(statement, [order.pk])


@sqlite
@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
@pytest.mark.parametrize("undo", [fill_the_disk, roll_back])
def test_a_transaction_that_sqlite_undid_is_no_success(
    send: Any, after: Any, way: str, undo: Any
) -> None:
    """SQLite undoes all of it, raw SQL swallows the error: 500, and a retry executes."""
    key, met = new_key(), []

    def swallow(request: Any, order: Order) -> None:
        try:
            undo(order)
        except DatabaseError as error:
            met.append(error)

    after(swallow)
    assert send(way, key=key).status_code == 500
    assert met
    assert not Order.objects.exists()

    after(usual)
    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
def test_a_view_that_closes_its_connection_is_no_success(send: Any, after: Any, way: str) -> None:
    """Its writes are gone with it: 500, and a retry executes."""
    key = new_key()
    after(lambda request, order: connection.close())
    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()

    after(usual)
    assert send(way, key=key).status_code == 201


@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
@pytest.mark.parametrize(
    "cause", [psycopg.errors.DeadlockDetected, psycopg.errors.AdminShutdown, None]
)
def test_a_database_error_after_the_commit_undoes_nothing(
    send: Any, after: Any, way: str, cause: type[Exception] | None
) -> None:
    """Of an on_commit() callback: nobody is told that the request was not carried out."""
    key = new_key()

    def fail() -> None:
        raise OperationalError("database is locked") from (cause and cause())  # noqa: EM101

    after(lambda request, order: transaction.on_commit(fail))
    assert send(way, key=key).status_code == 500

    (seen,) = IdempotencyKey.objects.with_counts()
    assert (seen.response_status, seen.failure_count) == (201, 0)
    again = send(way, key=key)
    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    assert Order.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
@pytest.mark.parametrize("asks", [False, True])
def test_a_transaction_that_was_idle_for_too_long_is_a_failure_of_the_server(
    send: Any, after: Any, way: str, asks: bool
) -> None:
    """idle_in_transaction_session_timeout: 503, nothing is kept, and a retry executes."""
    key = new_key()

    def idle(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = '20ms'")
        time.sleep(0.3)  # what the server ends is found at the next statement
        if asks:
            Order.objects.count()

    after(idle)
    refused = send(way, key=key)
    assert (refused.status_code, refused.json()["code"]) == (503, "idempotency_store_unavailable")
    assert not Order.objects.exists()

    after(usual)
    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@sqlite
@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
def test_a_mistake_of_the_view_is_no_failure_of_the_server(send: Any, after: Any, way: str) -> None:
    """SQLite calls both an OperationalError: the name of a column must not say which it is."""

    def ask(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT fullname FROM orders_order")

    after(ask)

    assert send(way, key=new_key()).status_code == 500


@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
def test_a_database_that_is_not_there_when_it_is_first_asked_what_it_can(
    send: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """MySQL is asked for its version by the first request of a worker: 503, and nothing runs."""

    def gone(alias: str) -> None:
        raise OperationalError(2003, "Can't connect")

    monkeypatch.setattr(rows, "statements_for", gone)
    refused = send(way, key=new_key())

    assert refused.status_code == 503
    assert refused.json()["code"] == "idempotency_store_unavailable"
    assert not Order.objects.exists()
