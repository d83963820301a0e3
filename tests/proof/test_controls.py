"""The checkers turn red: each finds the fault that is planted in the library for it.

What is planted are the mistakes of other libraries. They exist in the forked workers only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import Error, connection, transaction

from django_idempotency.models import IdempotencyKey
from django_idempotency.responses import HttpCodec
from django_idempotency.rows import KeyRows
from django_idempotency.sql import statements_for
from django_idempotency.store import Store
from tests.proof.bench import Site, Verdict
from tests.proof.enumeration import enumerate_faults
from tests.proof.fault_proxy import Fault
from tests.proof.twins import enumerate_twins

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.proof.urls"),
]


def commit_now() -> None:
    """Behind Django's back, which believes that its transaction goes on."""
    connection.connection.commit()


def render_after_the_commit() -> None:
    dump = HttpCodec.dump

    def late(self: Any, response: Any) -> Any:
        commit_now()
        return dump(self, response)

    HttpCodec.dump = late  # type: ignore[method-assign]


def store_in_a_transaction_of_its_own() -> None:
    complete = Store.complete

    def late(self: Any, *args: Any, **kwargs: Any) -> None:
        commit_now()
        complete(self, *args, **kwargs)

    Store.complete = late  # type: ignore[method-assign]


def lock_no_row() -> None:
    """The other half: without the lock a response is stored only where there is none yet."""
    KeyRows.lock = KeyRows.look  # type: ignore[method-assign]
    texts = statements_for("default")
    texts.store = texts.store.removesuffix(' AND "completed_at" IS NULL')


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


def kills(fault: Fault) -> bool:
    return fault.act == "kill" and fault.side == "before"


def drops(fault: Fault) -> bool:
    return fault.act == "drop" and fault.side == "after"


def red(verdict: Verdict, *invariants: str) -> None:
    """These invariants were violated, among others perhaps."""
    found = {violation.split(": ", 1)[1].split()[0] for violation in verdict.violations}
    assert verdict.fired
    assert set(invariants) <= found, verdict


def test_rendering_after_the_commit() -> None:
    """I4, I1: what cannot be rendered is answered 500, with an effect; the retry adds another."""
    plant = render_after_the_commit
    red(enumerate_faults(Site(), "first", "unrenderable", pick=drops, plant=plant), "I4", "I1")


def test_a_response_stored_in_its_own_transaction() -> None:
    """I1: killed between the two commits, and the retry executes again."""
    plant = store_in_a_transaction_of_its_own
    red(enumerate_faults(Site(), "first", "create", pick=kills, plant=plant), "I1")


def test_no_lock_on_the_row() -> None:
    """I1: twins both execute."""
    red(enumerate_twins(Site(), "first", "create", "twin", plant=lock_no_row), "I1")


def test_a_claim_deleted_in_an_except() -> None:
    """I1: the commit took place, its answer was lost, and so was the key."""
    plant = delete_the_claim_on_any_error
    red(enumerate_faults(Site(), "first", "create", pick=drops, plant=plant), "I1")


def test_a_store_whose_failure_is_ignored() -> None:
    """I3: the client gets a 201 for what was rolled back."""
    plant = ignore_that_the_store_failed
    red(enumerate_faults(Site(), "first", "swallow_sql", pick=drops, plant=plant), "I3")
