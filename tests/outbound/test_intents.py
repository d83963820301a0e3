"""A key that is stored before anything is sent, and survives whatever happens after."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction
from django.test import TestCase
from django.utils import timezone

from django_idempotency.client import OutcomeUnknown, RetryingClient
from django_idempotency.contrib import outbound
from django_idempotency.contrib.outbound import (
    IntentBusy,
    IntentResolved,
    OutboundIntent,
    WindowClosed,
    sends,
)
from django_idempotency.contrib.outbound.sending import next_pause
from tests.client.server import answer, scripted, stall
from tests.orders.models import Order
from tests.shop_server import shop_settings

Later = Callable[[OutboundIntent, timedelta], None]
State = OutboundIntent.State
ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys, django, requests
django.setup()
from django_idempotency.contrib.outbound import OutboundIntent
intent = OutboundIntent.objects.get(pk=sys.argv[1])
intent.send(lambda key: requests.post(sys.argv[2], headers={"Idempotency-Key": key}))
"""
PATIENCE = 30  # seconds; a barrier that takes as long is broken


class Declined(Exception):
    """The card was declined."""


class Killed(BaseException):
    """Stands for SIGKILL: no ``except Exception`` may catch it."""


def stored(intent: OutboundIntent) -> OutboundIntent:
    """What another process would see."""
    return OutboundIntent.objects.get(pk=intent.pk)


# -- one key per object and purpose


def test_the_key_is_stored_with_the_row_or_not_at_all(transactional_db: None) -> None:
    """In the caller's transaction: both commit, or neither."""

    def place(*, fail: bool) -> None:
        with transaction.atomic():
            OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge")
            if fail:
                raise Declined

    with pytest.raises(Declined):
        place(fail=True)
    assert (Order.objects.count(), OutboundIntent.objects.count()) == (0, 0)

    place(fail=False)
    assert (Order.objects.count(), OutboundIntent.objects.count()) == (1, 1)


def test_the_same_intent_comes_back(order: Order) -> None:
    """After a restart, too; another purpose or object is another operation."""
    first = OutboundIntent.for_object(order, "charge")

    assert OutboundIntent.for_object(Order.objects.get(), "charge") == first
    others = [
        OutboundIntent.for_object(order, "refund"),
        OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge"),
    ]
    assert len({intent.key for intent in [first, *others]}) == 3
    assert first.target == order
    assert str(first) == f"charge order {order.pk}"


def test_a_key_is_random(order: Order) -> None:
    """A copy of the database that goes its own way must not make the keys of the original."""
    first = OutboundIntent.for_object(order, "charge")
    assert len(first.key) == 36
    assert uuid.UUID(first.key).version == 4

    first.delete()  # as in a copy restored from before the intent was made
    assert OutboundIntent.for_object(order, "charge").key != first.key


@pytest.mark.parametrize(
    ("obj", "purpose", "rule"),
    [(Order(sku="new"), "charge", "Save the object first"), (Order(pk=1), "charge", "Save")],
)
def test_only_a_saved_object_has_an_intent(obj: Order, purpose: str, rule: str) -> None:
    """Its primary key is half of the identity."""
    with pytest.raises(ValueError, match=rule):
        OutboundIntent.for_object(obj, purpose)


@pytest.mark.parametrize("purpose", ["", "x" * 81])
def test_a_purpose_has_a_name(order: Order, purpose: str) -> None:
    """An empty one would be shared by everything; SQLite would keep one of any length."""
    with pytest.raises(ValueError, match=r"purpose says .* in 1 to 80 characters"):
        OutboundIntent.for_object(order, purpose)
    assert OutboundIntent.for_object(order, "x" * 80).purpose == "x" * 80


@pytest.mark.postgres
def test_simultaneous_workers_get_one_key(order: Order) -> None:
    """The unique constraint decides."""
    keys = together(8, lambda _: OutboundIntent.for_object(order, "charge").key)
    assert len(set(keys)) == 1


# -- outcomes


def test_a_block_that_ends_has_succeeded(intent: OutboundIntent) -> None:
    """And what was recorded before it began was committed by then."""
    with intent.sending() as attempt:
        (seen,) = together(1, lambda _: stored(intent))  # from another connection
        assert (seen.state, seen.attempts, seen.resolved_at) == (State.SENDING, 1, None)
        assert seen.first_sent_at == seen.last_attempt_at is not None
        assert attempt.key == intent.key

    after = stored(intent)
    assert (after.state, after.last_error, after.next_attempt_at) == (State.SUCCEEDED, "", None)
    assert after.is_resolved
    with pytest.raises(IntentResolved, match="has succeeded"):
        intent.send(lambda key: pytest.fail("sent twice"))


@pytest.mark.parametrize(
    ("error", "state"),
    [(Declined("no funds"), State.FAILED), (OSError("reset"), State.UNKNOWN)],
)
def test_only_a_definite_no_is_a_failure(
    intent: OutboundIntent, error: Exception, state: str
) -> None:
    """What an exception means is unknown unless the caller has named it."""

    def call(key: str) -> None:
        raise error

    with pytest.raises(type(error)):
        intent.send(call, failed=(Declined,))

    assert stored(intent).state == state
    assert stored(intent).last_error == f"{type(error).__name__}: {error}"
    assert stored(intent).is_resolved is (state == State.FAILED)


def test_outcome_unknown_of_the_client_is_unknown_here(intent: OutboundIntent) -> None:
    """Its message says what to do; the admin shows it."""

    def call(key: str) -> None:
        raise OutcomeUnknown(
            key=key, attempts=5, last_error="…", reason="…", may_have_happened=True
        )

    with pytest.raises(OutcomeUnknown):
        intent.send(call)
    assert stored(intent).state == State.UNKNOWN


@pytest.mark.parametrize(
    ("status", "state"),
    [(201, "succeeded"), (303, "succeeded"), (402, "failed"), (422, "failed")]
    + [(status, "unknown") for status in (103, 408, 409, 429, 500, 503, 520)]
    + [(status, "unknown") for status in (300, 301, 302, 304, 307, 308)],
)
def test_a_response_is_judged(intent: OutboundIntent, status: int, state: str) -> None:
    """That of requests or httpx, by the judge of the client.

    A redirect that nobody followed is no success, but for 303: "done, the result is there".
    """
    headers = {"Retry-After": "1"} if status == 409 else {}
    response = SimpleNamespace(status_code=status, headers=headers, content=b"")

    assert intent.send(lambda key: response) is response
    assert stored(intent).state == state


def test_an_attempt_can_say_it_itself(order: Order) -> None:
    """For libraries whose answers are neither responses nor exceptions."""
    for purpose, state in (("charge", "failed"), ("refund", "unknown")):
        intent = OutboundIntent.for_object(order, purpose)
        with intent.sending() as attempt:
            getattr(attempt, state)("the gateway said so")
        assert (stored(intent).state, stored(intent).last_error) == (state, "the gateway said so")


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_at_the_door_does_not_settle_an_earlier_attempt(
    intent: OutboundIntent, status: int
) -> None:
    """The first attempt timed out; a 401, or a proxy's 400, now says nothing about it."""
    response = SimpleNamespace(status_code=status, headers={}, content=b"<html>")
    with pytest.raises(TimeoutError), intent.sending():
        raise TimeoutError

    intent.send(lambda key: response)

    assert (stored(intent).state, stored(intent).attempts) == (State.UNKNOWN, 2)


@pytest.mark.parametrize(
    ("status", "slug"),
    [(409, "result-not-stored"), (403, "replay-forbidden"), (422, "key-reused")],
)
def test_what_was_carried_out_is_no_failure(intent: OutboundIntent, status: int, slug: str) -> None:
    """The first attempt was lost and did its work; the second is told so, or told half of it."""
    body = json.dumps({"type": f"https://gateway.example/problems/{slug}"}).encode()
    response = SimpleNamespace(status_code=status, headers={}, content=body)
    with pytest.raises(TimeoutError), intent.sending():
        raise TimeoutError

    intent.send(lambda key: response)

    assert (stored(intent).state, stored(intent).attempts) == (State.UNKNOWN, 2)


# -- crashes


def test_a_crash_leaves_sending_and_the_same_key_goes_on(
    intent: OutboundIntent, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the bytes left: nothing was recorded, and nobody may send for a lease."""
    keys = []

    def killed(key: str) -> None:
        keys.append(key)
        raise Killed

    with monkeypatch.context() as dead:
        dead.setattr("django_idempotency.contrib.outbound.sending._record", lambda *_: None)
        with pytest.raises(Killed):
            intent.send(killed)
    assert stored(intent).state == State.SENDING
    with pytest.raises(IntentBusy, match="sent elsewhere"):
        stored(intent).send(keys.append)

    later(intent, timedelta(minutes=6))
    stored(intent).send(keys.append)

    assert keys == [intent.key] * 2
    assert (stored(intent).state, stored(intent).attempts) == (State.SUCCEEDED, 2)


def test_a_killed_worker_leaves_its_key(intent: OutboundIntent, later: Later, capsys: Any) -> None:
    """A real process, killed while the gateway has its request; the command goes on."""
    sent: list[str] = []
    with scripted(stall, answer(201)) as script:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(intent.pk), script.url],
            env={**os.environ, **shop_settings()},
            cwd=ROOT,
        )
        try:
            until = time.monotonic() + PATIENCE
            while not script.seen and time.monotonic() < until and worker.poll() is None:
                time.sleep(0.02)
        finally:
            worker.kill()
            worker.wait()
        assert stored(intent).state == State.SENDING

        @sends("charge")
        def charge(intent: OutboundIntent) -> Any:
            sent.append(intent.key)
            with RetryingClient(requests.Session()) as client:
                return client.post(script.url, idempotency_key=intent.key)

        call_command("retry_outbound_intents")
        assert sent == []  # the worker may be alive, for all that is known
        later(intent, timedelta(minutes=6))
        call_command("retry_outbound_intents")
    assert [seen.key for seen in script.seen] == [intent.key] * 2
    assert (stored(intent).state, stored(intent).attempts) == (State.SUCCEEDED, 2)


def test_ctrl_c_is_recorded(intent: OutboundIntent) -> None:
    """The request may have left."""
    with pytest.raises(KeyboardInterrupt), intent.sending():
        raise KeyboardInterrupt
    assert stored(intent).state == State.UNKNOWN


def test_an_open_transaction_is_refused(intent: OutboundIntent) -> None:
    """Its rollback would take the record of the attempt along; the message names the cure."""
    with transaction.atomic(), pytest.raises(RuntimeError, match=r"Leave transaction\.atomic"):
        intent.send(lambda key: pytest.fail("sent"))
    assert stored(intent).state == State.OPEN


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"failed": Declined}, TypeError, "failed must be a tuple of exception classes"),
        ({"failed": ("Declined",)}, TypeError, "failed must be a tuple of exception classes"),
        ({"failed": (KeyboardInterrupt,)}, TypeError, "failed must be a tuple"),
        ({"lease": timedelta(0)}, ValueError, "lease must be a timedelta of more than 0"),
        ({"lease": 300}, ValueError, "lease must be a timedelta"),
        ({"window": -timedelta(hours=1)}, ValueError, "window must be a timedelta of more"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(
    intent: OutboundIntent, options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """And at the registration, which is the start of the process."""
    with pytest.raises(error, match=rule):
        intent.send(lambda key: pytest.fail("sent"), **options)
    assert stored(intent).state == State.OPEN
    with pytest.raises(error, match=rule):
        sends("charge", **options)


def test_it_can_be_sent_when_the_transaction_has_committed(transactional_db: None) -> None:
    """As the message of the refusal advises."""
    sent: list[str] = []
    with transaction.atomic():
        intent = OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge")
        transaction.on_commit(lambda: intent.send(sent.append))
    assert sent == [intent.key]
    assert stored(intent).state == State.SUCCEEDED


class UsersTests(TestCase):
    """A ``TestCase`` has a transaction of its own, which users cannot leave."""

    def test_an_intent_can_be_sent(self) -> None:
        intent = OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge")
        intent.send(lambda key: None)
        assert intent.state == State.SUCCEEDED


def test_past_the_window_nobody_sends(intent: OutboundIntent, later: Later) -> None:
    """The other side may have forgotten the key and would do it again."""
    with pytest.raises(OSError), intent.sending():  # noqa: PT011 - our own
        raise OSError
    later(intent, timedelta(hours=24))

    with pytest.raises(WindowClosed, match="may have forgotten"):
        intent.send(lambda key: pytest.fail("sent"))
    intent.send(lambda key: None, window=timedelta(days=30))  # Adyen remembers longer


# -- two workers


def together(threads: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act(number)`` returns in each thread, all let go at the same moment."""
    barrier = threading.Barrier(threads, timeout=PATIENCE)

    def run(number: int) -> Any:
        try:
            connections["default"].ensure_connection()
            barrier.wait()
            return act(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.mark.postgres
@pytest.mark.parametrize("round_number", range(5))
def test_two_workers_never_send_one_intent_at_once(
    intent: OutboundIntent, round_number: int
) -> None:
    """Ten try at the same moment; one sends, and is alone until it has finished."""
    sent: list[str] = []
    refused = threading.Semaphore(0)

    def work(_: int) -> bool:
        def call(key: str) -> None:
            sent.append(key)
            for _ in range(9):  # until all others have been refused
                assert refused.acquire(timeout=PATIENCE)

        try:
            stored(intent).send(call)
        except IntentBusy:
            refused.release()
            return False
        return True

    assert sum(together(10, work)) == 1
    assert sent == [intent.key]
    assert stored(intent).attempts == 1


def test_a_worker_that_was_taken_over_does_not_overwrite(
    intent: OutboundIntent, later: Later, caplog: Any
) -> None:
    """Its failure is stale; the successor's outcome stands."""
    slow = stored(intent)

    def outlive_the_lease(key: str) -> None:
        later(intent, timedelta(minutes=6))
        stored(intent).send(lambda key: None)
        raise Declined

    with caplog.at_level(logging.WARNING), pytest.raises(Declined):
        slow.send(outlive_the_lease, failed=(Declined,))
    assert stored(intent).state == State.SUCCEEDED
    assert "after others had taken it over" in caplog.text


def test_a_late_success_is_a_success(intent: OutboundIntent, later: Later) -> None:
    """The key was the same, so what it reports is a fact."""
    slow = stored(intent)
    with slow.sending():
        later(intent, timedelta(minutes=6))
        with pytest.raises(TimeoutError), stored(intent).sending():
            raise TimeoutError
    assert stored(intent).state == State.SUCCEEDED


def test_what_a_person_found_out_is_recorded(intent: OutboundIntent) -> None:
    """With a note, and only where the outcome is unknown."""
    with pytest.raises(ValueError, match="the intent is open"):
        intent.resolve(succeeded=True, note="ch_1")
    with pytest.raises(TimeoutError), intent.sending():
        raise TimeoutError
    with pytest.raises(ValueError, match="Say in the note"):
        intent.resolve(succeeded=True, note=" ")

    intent.resolve(succeeded=True, note="found as ch_1 at the gateway")

    assert (stored(intent).state, stored(intent).is_resolved) == (State.SUCCEEDED, True)
    with pytest.raises(ValueError, match="the intent is succeeded"):
        intent.resolve(succeeded=False, note="no")


# -- the table itself


@pytest.mark.parametrize(
    ("constraint", "lie"),
    [
        ("is_named", {"key": ""}),
        ("is_named", {"purpose": ""}),
        ("is_named", {"object_id": ""}),
        ("resolved_iff_known", {"sent": True, "state": "lost"}),
        ("open_iff_never_sent", {"attempts": 1}),
        ("open_iff_never_sent", {"first_sent_at": timezone.now()}),
        ("open_iff_never_sent", {"state": "sending"}),
        ("open_iff_never_sent", {"state": "unknown", "last_error": "x", "attempts": 1}),
        ("resolved_iff_known", {"resolved_at": timezone.now()}),
        ("resolved_iff_known", {"next_attempt_at": None}),
        ("resolved_iff_known", {"sent": True, "state": "succeeded"}),
        (
            "resolved_iff_known",
            {"sent": True, "state": "unknown", "last_error": "x"} | {"resolved_at": timezone.now()},
        ),
        ("trouble_is_explained", {"sent": True, "state": "unknown"}),
        (
            "trouble_is_explained",
            {"sent": True, "state": "failed", "next_attempt_at": None}
            | {"resolved_at": timezone.now()},
        ),
    ],
)
@pytest.mark.django_db
def test_an_intent_cannot_hold_a_lie(constraint: str, lie: dict[str, Any]) -> None:
    """The database refuses, and names the rule."""
    now = timezone.now()
    row: dict[str, Any] = {
        "content_type": ContentType.objects.get_for_model(Order),
        "object_id": "1",
        "purpose": "charge",
        "key": str(uuid.uuid4()),
        "created_at": now,
        "next_attempt_at": now,
    }
    sent = {"attempts": 1, "first_sent_at": now, "last_attempt_at": now}
    facts = row | (sent if lie.get("sent") else {}) | {k: v for k, v in lie.items() if k != "sent"}
    with pytest.raises(IntegrityError, match=f"outbound_intent_{constraint}"), transaction.atomic():
        OutboundIntent.objects.create(**facts)


@pytest.mark.django_db
def test_an_object_has_one_intent_per_purpose() -> None:
    """And a key belongs to one intent."""
    intent = OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge")
    facts = {
        "content_type": intent.content_type,
        "object_id": intent.object_id,
        "purpose": intent.purpose,
        "created_at": intent.created_at,
        "next_attempt_at": intent.next_attempt_at,
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        OutboundIntent.objects.create(**facts, key=str(uuid.uuid4()))
    with pytest.raises(IntegrityError), transaction.atomic():
        OutboundIntent.objects.create(**facts | {"purpose": "refund"}, key=intent.key)


def test_the_pauses_between_runs_grow_to_an_hour() -> None:
    """Half of each is jitter."""
    assert next_pause(1, lambda: 0.0) == timedelta(seconds=15)
    assert next_pause(1, lambda: 1.0) == timedelta(seconds=30)
    assert next_pause(4, lambda: 1.0) == timedelta(minutes=4)
    assert next_pause(10_000, lambda: 1.0) == timedelta(hours=1)


def test_a_purpose_has_one_sender() -> None:
    """A second registration is a mistake that would send through the wrong account."""
    sends("charge")(print)
    with pytest.raises(ValueError, match="sends 'charge' already"):
        sends("charge")(print)


def test_unknown_names_are_refused() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Intent'"):
        _ = outbound.Intent
