"""What a keyed request leaves behind: one log line, one signal, counts that are bounded."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from rest_framework.authtoken.models import Token

from django_idempotency import rows, signals
from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from django_idempotency.protocol import Outcome
from django_idempotency.store import Store
from tests.orders.models import Order
from tests.sender import new_key


def lines(caplog: Any) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "django_idempotency" and record.levelno == logging.INFO
    ]


def test_each_keyed_request_writes_one_line_without_the_key(send: Any, caplog: Any) -> None:
    """S23: outcome, status and digests; neither key nor scope nor a second line."""
    caplog.set_level(logging.INFO, "django_idempotency")
    key = f'"{new_key()} with\ttab"'.replace("\t", " ")

    send("/plain/", key=key)
    send("/plain/", key=key)
    send("/plain/", {"qty": 2}, key=key)
    send("/plain/", key='"broken')

    found = lines(caplog)
    outcomes = [line.split()[1] for line in found]
    assert outcomes == [f"outcome={o}" for o in ("executed", "replayed", "conflict", "refused")]
    assert not any(key.strip('"') in line or "anonymous" in line for line in found)
    assert "status=422" in found[2]
    assert "code=idempotency_key_invalid" in found[3]


@pytest.mark.parametrize("fails", [False, True])
def test_signals_carry_the_details_and_cost_no_response(send: Any, after: Any, fails: bool) -> None:
    """Sent after the commit; a receiver that raises changes nothing."""
    seen: list[tuple[Outcome, int | None, int]] = []

    def receiver(*, details: signals.RequestDetails, **kwargs: Any) -> None:
        seen.append((details.outcome, details.status, Order.objects.count()))
        if fails:
            raise RuntimeError

    heard = (signals.request_executed, signals.request_replayed, signals.request_refused)
    key = new_key()
    for signal in heard:
        signal.connect(receiver)
    try:
        answers = [send("/plain/", key=key), send("/plain/", key=key)]
        answers.append(send("/plain/", {"qty": 2}, key=key))
    finally:
        for signal in heard:
            signal.disconnect(receiver)

    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert seen == [
        (Outcome.EXECUTED, 201, 1),
        (Outcome.REPLAYED, 201, 1),
        (Outcome.CONFLICT, 422, 1),
    ]


def test_events_are_bounded_and_counts_are_exact(send: Any, monkeypatch: Any) -> None:
    """The tally counts all; of each kind a key keeps the first events."""
    monkeypatch.setattr(rows, "EVENTS_PER_KIND", 3)
    key = new_key()

    for _ in range(8):
        send("/plain/", key=key)
    send("/plain/", {"qty": 2}, key=key)

    record = IdempotencyKey.objects.get()
    assert (record.replay_count, record.conflict_count) == (7, 1)
    assert KeyEvent.objects.filter(kind="replayed").count() == 3
    assert KeyEvent.objects.filter(kind="conflict").count() == 1


def test_counts_only(send: Any, settings: Any) -> None:
    """AUDIT="counts" keeps no events."""
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    key = new_key()

    send("/plain/", key=key)
    send("/plain/", key=key)

    assert IdempotencyKey.objects.get().replay_count == 1
    assert not KeyEvent.objects.exists()


def test_an_event_says_who_when_and_how_long(send: Any) -> None:
    """Address, user agent, request id, status; with control characters made harmless."""
    key = new_key()
    send("/plain/", key=key)

    send("/plain/", key=key, User_Agent="till\x00/2", X_Request_ID="req-1")

    event = KeyEvent.objects.get()
    assert (event.status, event.remote_addr, event.request_id) == (201, "127.0.0.1", "req-1")
    assert event.user_agent == "till�/2"
    assert event.duration_ms >= 0


def test_an_execution_whose_commit_fails_has_failed(send: Any, after: Any, caplog: Any) -> None:
    """The view returned its 201, and the database refused the commit: a failure, on all records."""
    caplog.set_level(logging.INFO, "django_idempotency")
    # PostgreSQL and SQLite check that reference in COMMIT, MySQL at once.
    after(lambda request, order: Token.objects.create(key="of nobody", user_id=0) and None)

    assert send("/plain/", key=new_key()).status_code == 500

    assert KeyTally.objects.get().failure_count == 1
    assert ["outcome=failed" in line for line in lines(caplog)] == [True]
    assert not Order.objects.exists()


@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt])
def test_a_dying_process_is_not_asked_to_account(send: Any, after: Any, death: Any) -> None:
    """Who is told to stop leaves an execution without a word, as who is killed does."""

    def die(request: Any, order: Order) -> None:
        raise death

    after(die)
    with pytest.raises(death):
        send("/plain/", key=new_key())

    assert not KeyTally.objects.exists()
    assert not Order.objects.exists()


def test_who_is_given_a_key_again_and_again_accounts_for_each(
    send: Any, after: Any, before: Any
) -> None:
    """Given thrice, used once: it gave way twice, and none of that will pass for a crash."""
    key = new_key()

    def fail_others(request: Any, order: Order) -> None:
        if order.qty == 2:
            raise RuntimeError

    def other() -> None:
        """Another request, which takes a key that nobody runs."""
        assert send("/plain/", {"sku": "tea", "qty": 2}, key=key).status_code == 500

    def usual() -> None:
        """The other request's own step."""

    after(fail_others)
    before(Store, "exclusive", other, usual, other, usual)

    assert send("/plain/", key=key).status_code == 201

    tally = KeyTally.objects.get()
    assert (tally.given_way_count, tally.failure_count) == (2, 2)
