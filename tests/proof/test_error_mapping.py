"""Every database error of the failure model, where it can strike: the status, the way back.

The database raises them itself: triggers on the tables, or a block in the view. Whatever was
answered, nothing was kept, and the same key works as soon as the error is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyKey
from django_idempotency.rows import KeyRows
from tests.orders.models import Order
from tests.proof.bench import KEYS, ORDERS, TALLIES
from tests.sender import new_key

pytestmark = pytest.mark.postgres

TRANSIENT = {
    "08006": "connection failure",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "55P03": "lock timeout",
    "57014": "statement timeout",
    "57P01": "terminated",
    "53100": "disk full",
    "53300": "too many connections",
    "58030": "disk error",
}
THE_VIEW_S = {
    "25006": "read-only transaction",
    "25P02": "transaction is aborted",
    "23505": "unique violation",
    "P0001": "raised by a trigger of the site",
}
# What may end a connection. Raised at COMMIT nobody knows whether it took place; a statement
# timeout does not end one, and is called unknown all the same: that costs a retry, no more.
LOST = {"08006", "57P01", "57014"}
STATES = [*TRANSIENT, *THE_VIEW_S]

every_state = pytest.mark.parametrize("state", STATES)
both_kinds = pytest.mark.parametrize("way", ["/apiview/", "/async/"])
both_sync = pytest.mark.parametrize("way", ["/apiview/", "/plain/"])

Strike = Callable[..., AbstractContextManager[None]]


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def trigger(transactional_db: None) -> Strike:
    """``with trigger(state, "BEFORE INSERT ON table")``: what the table raises until the end."""

    @contextmanager
    def striking(state: str, when: str, *, deferred: bool = False) -> Iterator[None]:
        kind = "CONSTRAINT TRIGGER" if deferred else "TRIGGER"
        clause = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
        table = when.rsplit(" ", 1)[1]
        execute("CREATE SEQUENCE proof_fired")
        execute(
            "CREATE FUNCTION proof_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM nextval('proof_fired'); "
            f"RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'planted'; END $$"
        )
        execute(
            f"CREATE {kind} proof_fails {when} {clause} FOR EACH ROW EXECUTE FUNCTION proof_fails()"
        )
        try:
            yield
            with connection.cursor() as cursor:
                cursor.execute("SELECT is_called FROM proof_fired")
                assert cursor.fetchone()[0], "the fault did not fire"
        finally:
            execute(f"DROP TRIGGER proof_fails ON {table}")
            execute("DROP FUNCTION proof_fails()")
            execute("DROP SEQUENCE proof_fired")

    return striking


def refused(response: Any, slug: str, status: int = 503) -> None:
    assert response.status_code == status, response.content
    assert response.json()["type"].endswith("/" + slug)
    assert response["Retry-After"].isdigit()


def nothing_was_kept() -> None:
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.completed().exists()


def works_now(send: Any, way: str, key: str) -> None:
    """The same key executes, once, and is replayed."""
    first, again = send(way, key=key), send(way, key=key)
    assert first.status_code == 201, first.content
    assert "Idempotent-Replayed" not in first
    assert (again["Idempotent-Replayed"], again.content) == ("true", first.content)
    assert Order.objects.count() == 1


@both_kinds
@every_state
def test_at_the_claim(send: Any, trigger: Strike, state: str, way: str) -> None:
    """503, nothing has run; a lock timeout is a twin that commits: 409."""
    key = new_key()
    with trigger(state, f"BEFORE INSERT ON {KEYS}"):
        response = send(way, key=key)
    if state == "55P03":
        refused(response, "in-progress", 409)
    else:
        refused(response, "store-unavailable")
    nothing_was_kept()
    assert not IdempotencyKey.objects.exists()
    works_now(send, way, key)


@both_sync
@every_state
@pytest.mark.parametrize("body", [None, {"sku": "cup"}], ids=["begun again", "taken over"])
def test_at_a_key_that_nobody_finished(
    send: Any, after: Any, trigger: Strike, state: str, way: str, body: dict[str, Any] | None
) -> None:
    """As at the claim, for the same request and for another one."""
    key = new_key()
    after(lambda request, order: execute("SELECT planted"))
    assert send(way, key=key).status_code == 500
    after(lambda request, order: None)

    with trigger(state, f"BEFORE UPDATE ON {KEYS}"):
        refused(send(way, body, key=key), "store-unavailable")
    nothing_was_kept()
    works_now(send, way, key)


@both_kinds
@every_state
def test_at_the_lock(send: Any, monkeypatch: Any, state: str, way: str) -> None:
    """The first statement of the request's transaction; no trigger is asked there."""
    key = new_key()

    def fail(self: Any) -> None:
        execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")

    with monkeypatch.context() as patch:
        patch.setattr(KeyRows, "lock", fail)
        response = send(way, key=key)
    if state in TRANSIENT:
        refused(response, "store-unavailable")
    else:
        assert response.status_code == 500  # it cannot come from a lock, and is nobody's retry
    nothing_was_kept()
    works_now(send, way, key)


@both_sync
@every_state
@pytest.mark.parametrize("stored", [False, True], ids=["", "STORE_5XX"])
def test_in_the_view(
    send: Any, after: Any, settings: Any, state: str, way: str, stored: bool
) -> None:
    """The server's failure: 503, never stored. The view's own: 500, stored where asked for."""
    settings.IDEMPOTENCY = {"STORE_5XX": stored}
    key, fired = new_key(), []

    def fail(request: Any, order: Order) -> None:
        fired.append(order.pk)
        execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")

    after(fail)
    response = send(way, key=key)
    after(lambda request, order: None)

    assert fired
    assert not Order.objects.exists()
    if state in TRANSIENT:
        refused(response, "store-unavailable")
    else:
        assert response.status_code == 500
    if state in TRANSIENT or not stored:
        nothing_was_kept()
        works_now(send, way, key)
    else:
        assert send(way, key=key).content == response.content


@every_state
def test_while_the_response_is_stored(send: Any, trigger: Strike, state: str) -> None:
    """Before the commit: what failed was not carried out, and is undone."""
    way, key = "/apiview/", new_key()
    with trigger(state, f"BEFORE UPDATE ON {KEYS}"):
        response = send(way, key=key)
    if state in TRANSIENT:
        refused(response, "store-unavailable")
    else:
        assert response.status_code == 500
    nothing_was_kept()
    works_now(send, way, key)


@both_kinds
@every_state
def test_at_the_commit(send: Any, trigger: Strike, state: str, way: str) -> None:
    """A deferred trigger raises in COMMIT: "outcome unknown" only where the connection is lost."""
    key = new_key()
    with trigger(state, f"AFTER INSERT ON {ORDERS}", deferred=True):
        response = send(way, key=key)
    if state in LOST:
        refused(response, "outcome-unknown")
    elif state in TRANSIENT:
        refused(response, "store-unavailable")
    else:
        assert response.status_code == 500
    nothing_was_kept()
    works_now(send, way, key)


@every_state
def test_a_replay_that_cannot_be_counted(send: Any, trigger: Strike, state: str) -> None:
    """The answer stands, though its tally is lost."""
    way, key = "/apiview/", new_key()
    first = send(way, key=key)
    with trigger(state, f"BEFORE INSERT ON {TALLIES}"):
        again = send(way, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert IdempotencyKey.objects.get().replay_count == 0
    assert send(way, key=key)["Idempotent-Replayed"] == "true"
    assert IdempotencyKey.objects.get().replay_count == 1
    assert Order.objects.count() == 1


@both_kinds
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_single_serialization_failure_or_deadlock_at_the_claim_is_not_seen(
    send: Any, trigger: Strike, way: str, state: str
) -> None:
    """The claim is made again at once: it has done nothing yet."""
    key = new_key()
    with trigger(state, f"BEFORE INSERT ON {KEYS}"):
        execute(
            "CREATE OR REPLACE FUNCTION proof_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF nextval('proof_fired') = 1 THEN RAISE EXCEPTION USING ERRCODE = '{state}'; "
            "END IF; RETURN NEW; END $$"
        )
        assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1
