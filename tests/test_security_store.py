"""Security row S31: a store that fails, fails closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection

from django_idempotency import sql
from django_idempotency.models import IdempotencyKey, KeyTally
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.row_locks
every_kind = pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
KEYS, TALLIES = (model._meta.db_table for model in (IdempotencyKey, KeyTally))


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@contextmanager
def hidden(table: str) -> Iterator[None]:
    """The table is not there, as before a migration."""
    quote = connection.ops.quote_name
    rename = f"ALTER TABLE {quote('%s')} RENAME TO {quote('%s')}"
    with connection.cursor() as cursor:
        cursor.execute(rename % (table, "hidden"))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename % ("hidden", table))


@contextmanager
def broken(statement: str) -> Iterator[None]:
    """One statement of the store fails, whatever it holds: the disk is full, a bug, a typo."""
    with pytest.MonkeyPatch.context() as patch:
        texts = sql.statements_for("default")
        patch.setattr(texts, statement, "SELECT nothing_of_this_name")
        yield


FAILURES: dict[str, Any] = {
    "no table": lambda: hidden(KEYS),
    "claim": lambda: broken("claim"),
    "lock": lambda: broken("lock"),
    "store": lambda: broken("store"),
}


@every_kind
@pytest.mark.parametrize("failure", FAILURES)
def test_s31_a_store_that_fails_fails_closed(send: Any, after: Any, way: str, failure: str) -> None:
    """S31: at the claim, the lock or the response: an error and no row; later the key works."""
    key = new_key()
    trouble: AbstractContextManager[None] = FAILURES[failure]()

    with trouble:
        answer = send(way, key=key)
        assert not Order.objects.exists()

    assert answer.status_code in {500, 503}
    if failure in {"no table", "claim"}:
        assert answer.json()["type"].endswith("/store-unavailable")
        assert answer["Retry-After"].isdigit()
    assert send(way, key=key).status_code == 201
    assert is_replay(send(way, key=key))
    assert Order.objects.count() == 1


@every_kind
def test_s31_a_trail_that_fails_costs_no_answer(send: Any, way: str) -> None:
    """S31: what only counts may fail open: the replay is right, and nothing runs twice."""
    key = new_key()
    first = send(way, key=key)

    with hidden(TALLIES):
        replay = send(way, key=key)
        conflict = send(way, {"sku": "x"}, key=key)

    assert (replay.status_code, replay.content, is_replay(replay)) == (201, first.content, True)
    assert conflict.status_code == 422
    assert Order.objects.count() == 1
