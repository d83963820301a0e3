"""Mistakes to plant in the library, most of them those of other libraries.

Each is called in the process that shall make the mistake, and in no other. A checker that
finds nothing must find these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import Error, connection, transaction

from django_idempotency.models import IdempotencyKey
from django_idempotency.responses import HttpCodec
from django_idempotency.rows import KeyRows
from django_idempotency.sql import statements_for
from django_idempotency.store import Store

__all__ = ["PLANTS"]


def commit_now() -> None:
    """Behind Django's back, which believes that its transaction goes on."""
    connection.connection.commit()


def render_after_the_commit() -> None:
    dump = HttpCodec.dump

    def late(self: Any, response: Any) -> Any:
        commit_now()
        return dump(self, response)

    HttpCodec.dump = late  # type: ignore[method-assign]


def store_in_a_transaction_of_its_own(pause: float = 0.0) -> None:
    complete = Store.complete

    def late(self: Any, *args: Any, **kwargs: Any) -> None:
        commit_now()
        time.sleep(pause)
        complete(self, *args, **kwargs)

    Store.complete = late  # type: ignore[method-assign]


def store_some_time_later() -> None:
    """The same with a window that a random fault may hit."""
    store_in_a_transaction_of_its_own(pause=0.5)


def lock_no_row() -> None:
    """The other half: without the lock a response is stored only where there is none yet."""
    KeyRows.lock = KeyRows.look  # type: ignore[method-assign]
    texts = statements_for("default")
    texts.begin_again = texts.begin_again.replace(" FOR NO KEY UPDATE SKIP LOCKED", "")
    texts.store = texts.store.removesuffix(' AND "completed_at" IS NULL')


def wait_for_the_lock() -> None:
    texts = statements_for("default")
    texts.begin_again = texts.begin_again.replace(" SKIP LOCKED", "")
    texts.lock = texts.lock.replace(" SKIP LOCKED", "")


def lock_what_is_replayed() -> None:
    """Finished or not, whoever cannot have the lock is told that the key is in flight."""
    reserve = Store.reserve

    def locking(self: Any) -> Any:
        record = reserve(self)
        if record.response is None:
            return record
        with self._transaction():
            found = self.rows.lock()
            time.sleep(0.005)  # as one has who counts the replay in the same row
        return record if found else replace(record, response=None, busy=True)

    Store.reserve = locking  # type: ignore[method-assign]


def count_nothing() -> None:
    KeyRows.count = lambda self, kind, **kwargs: None  # type: ignore[method-assign]


def leave_commits_unflushed() -> None:
    """The claim's wish not to wait for disk and replica stays with the session."""
    texts = statements_for("default")
    wish = "set_config('synchronous_commit', 'off', "
    texts.claim = texts.claim.replace(wish + "true)", wish + "false)")


def delete_the_claim_on_any_error() -> None:
    exclusive = Store.exclusive

    @contextmanager
    def cleaning(self: Any, seen: Any) -> Iterator[Any]:
        try:
            with exclusive(self, seen) as record:
                yield record
        except Exception:
            connection.close()
            IdempotencyKey.objects.filter(pk=self.request.id).delete()
            raise

    Store.exclusive = cleaning  # type: ignore[method-assign]


def ignore_that_the_store_failed() -> None:
    complete = Store.complete

    def careless(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            complete(self, *args, **kwargs)
        except (Error, transaction.TransactionManagementError):
            transaction.set_rollback(True)

    Store.complete = careless  # type: ignore[method-assign]


def replay_something_else() -> None:
    load = HttpCodec.load

    def other(self: Any, *args: Any) -> Any:
        response = load(self, *args)
        response.content += b" "
        return response

    HttpCodec.load = other  # type: ignore[method-assign]


def take_every_unfinished_key_for_busy() -> None:
    """As libraries do that have a status in place of a lock: a killed worker's key is stuck."""
    usual = Store._reserved

    def stuck(self: Any, seen: Any) -> Any:
        unfinished = seen is not None and seen.response is None
        return replace(seen, busy=True) if unfinished else usual(self, seen)

    Store._reserved = stuck  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        *(render_after_the_commit, store_in_a_transaction_of_its_own, store_some_time_later),
        *(lock_no_row, wait_for_the_lock, lock_what_is_replayed, count_nothing),
        *(leave_commits_unflushed, delete_the_claim_on_any_error, ignore_that_the_store_failed),
        *(replay_something_else, take_every_unfinished_key_for_busy),
    )
}
