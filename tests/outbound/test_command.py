"""``retry_outbound_intents``: what is due is sent with its own key, and it says what it did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_idempotency.contrib.outbound import OutboundIntent, sends
from tests.orders.models import Order

Later = Callable[[OutboundIntent, timedelta], None]


@pytest.fixture
def due(transactional_db: None, later: Later) -> Callable[..., list[OutboundIntent]]:
    """So many intents that nobody has sent for two minutes."""

    def make(count: int, purpose: str = "charge") -> list[OutboundIntent]:
        orders = [Order.objects.create(sku="tea") for _ in range(count)]
        intents = [OutboundIntent.for_object(order, purpose) for order in orders]
        for intent in intents:
            later(intent, timedelta(minutes=2))
        return intents

    return make


def run(capsys: Any, **options: Any) -> tuple[str, str]:
    call_command("retry_outbound_intents", **options)
    captured = capsys.readouterr()
    return captured.out.strip(), captured.err.strip()


def test_it_sends_what_is_due_with_the_stored_keys(due: Any, capsys: Any) -> None:
    """And counts outcomes; what failed or is unknown stands on stderr."""
    intents = due(5)
    sent = []

    class Declined(Exception):
        pass

    @sends("charge", failed=(Declined,))
    def charge(intent: OutboundIntent) -> None:
        sent.append(intent.key)
        if intent == intents[1]:
            raise Declined
        if intent == intents[2]:
            raise TimeoutError

    out, err = run(capsys, batch_size=2)

    assert sorted(sent) == sorted(intent.key for intent in intents)
    assert out == "Sent 5 intents: 3 succeeded, 1 failed, 1 unknown."
    assert f"charge order {intents[2].object_id}, key {intents[2].key}: TimeoutError" in err
    assert run(capsys)[0] == "Sent 0 intents: 0 succeeded, 0 failed, 0 unknown."  # not due yet


def test_a_fresh_intent_is_left_to_who_stored_it(intent: OutboundIntent, capsys: Any) -> None:
    """For a minute."""
    sends("charge")(lambda intent: pytest.fail("sent"))
    assert run(capsys)[0].startswith("Sent 0 intents")


def test_one_that_crashed_is_resumed_after_its_lease(
    due: Any, later: Later, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same key."""
    (intent,) = due(1)
    with monkeypatch.context() as dead:
        dead.setattr("django_idempotency.contrib.outbound.sending._record", lambda *_: None)
        intent.send(lambda key: None)
    sent = []
    sends("charge")(lambda intent: sent.append(intent.key))

    assert run(capsys)[0].startswith("Sent 0 intents")
    later(intent, timedelta(minutes=6))
    assert run(capsys)[0].startswith("Sent 1 intents: 1 succeeded")
    assert sent == [intent.key]


def test_a_dry_run_sends_nothing(due: Any, capsys: Any) -> None:
    """It counts what would go."""
    due(3)
    sends("charge")(lambda intent: pytest.fail("sent"))
    assert run(capsys, dry_run=True)[0] == "Would send 3 intents."


class ReplicaRouter:
    """Reads go to another database than writes, where nothing has arrived yet."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is OutboundIntent else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_another_database_is_named(capsys: Any) -> None:
    """An intent stands beside its object; ``--database`` sends those of one database only."""
    sent = []
    intents = {}
    for alias in ("default", "other"):
        order = Order.objects.using(alias).create(sku="tea")
        intent = intents[alias] = OutboundIntent.for_object(order, "charge")
        past = intent.created_at - timedelta(minutes=2)
        rows = OutboundIntent.objects.using(alias)
        rows.update(next_attempt_at=past)
        lost = OutboundIntent.for_object(order, f"lost in {alias}")
        with pytest.raises(TimeoutError), lost.sending():
            raise TimeoutError
        rows.filter(pk=lost.pk).update(first_sent_at=past - timedelta(days=2))
    sends("charge")(lambda intent: sent.append((intent._state.db, intent.key)))
    sends("lost in other")(print)

    assert run(capsys, dry_run=True, database="other")[0] == "Would send 1 intents."
    out, err = run(capsys, database="other")
    assert out.startswith("Sent 1 intents: 1 succeeded")
    assert sent == [("other", intents["other"].key)]
    assert "1 intents to lost in other are past their window" in err
    assert "Nobody sends" not in err

    out, err = run(capsys)
    assert out.startswith("Sent 1 intents: 1 succeeded")
    assert sent[1:] == [("default", intents["default"].key)]
    assert "past their window" not in err
    assert "Nobody sends 'lost in default'" in err


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_replica_is_not_asked(settings: Any, capsys: Any) -> None:
    """Intents are read where they are written, from the first to the last."""
    settings.DATABASE_ROUTERS = ["tests.outbound.test_command.ReplicaRouter"]
    sent = []
    order = Order.objects.create(sku="tea")
    intent = OutboundIntent.for_object(order, "charge")
    OutboundIntent.objects.using("default").update(next_attempt_at=intent.created_at)
    sends("charge")(lambda intent: sent.append(intent.key))

    assert run(capsys)[0].startswith("Sent 1 intents")
    assert sent == [intent.key]

    lost = OutboundIntent.for_object(order, "refund")
    with pytest.raises(TimeoutError), lost.sending():
        raise TimeoutError
    lost.resolve(succeeded=True, note="found as re_1")
    assert lost.is_resolved


def test_it_stops_when_its_time_is_up(due: Any, capsys: Any) -> None:
    """Between two attempts."""
    due(3)
    sends("charge")(lambda intent: None)
    out, _ = run(capsys, max_seconds=0.0)
    assert out == "Sent 0 intents: 0 succeeded, 0 failed, 0 unknown. Time is up; more are left."


def test_another_worker_is_passed_over(due: Any, capsys: Any) -> None:
    """It was quicker with the second of two."""
    first, second = due(2)
    sent = []

    @sends("charge")
    def charge(intent: OutboundIntent) -> None:
        sent.append(intent)
        if intent == first:
            OutboundIntent.objects.get(pk=second.pk).send(lambda key: None)

    assert run(capsys)[0] == "Sent 1 intents: 1 succeeded, 0 failed, 0 unknown."
    assert sent == [first]


def test_what_it_cannot_help_with_is_reported(due: Any, later: Later, capsys: Any) -> None:
    """Past its window, or without a function that sends it; each time, until somebody looks."""
    (old,) = due(1)
    with pytest.raises(TimeoutError), old.sending():
        raise TimeoutError
    later(old, timedelta(days=2))
    due(1, "refund")
    sends("charge")(lambda intent: pytest.fail("sent"))

    for _ in range(2):
        _, err = run(capsys)
        assert "1 intents to charge are past their window" in err
        assert "Nobody sends 'refund'" in err


def test_progress_is_shown_on_a_terminal(due: Any, capsys: Any) -> None:
    """One line that is overwritten."""
    due(2)
    sends("charge")(lambda intent: None)

    class Terminal:
        written = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.written += text

        def flush(self) -> None:
            pass

    terminal = Terminal()
    call_command("retry_outbound_intents", stdout=terminal, no_color=True)
    assert "\r1 sent\r2 sent\rSent 2 intents" in terminal.written


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"batch_size": 0}, "--batch-size must be 1 or more")]
    + [({"max_seconds": s}, "--max-seconds must be 0 or more") for s in (-1.0, float("nan"))],
)
def test_bad_options_are_refused(db: None, options: dict[str, Any], rule: str) -> None:
    """With the rule in the message."""
    with pytest.raises(CommandError, match=rule):
        call_command("retry_outbound_intents", **options)


def test_it_ends_where_nothing_can_be_claimed(due: Any, capsys: Any) -> None:
    """Inside a transaction each one is refused; they stay due, and are not tried for ever."""
    due(3)
    sends("charge")(lambda intent: pytest.fail("sent"))
    with transaction.atomic():
        out, err = run(capsys, batch_size=2)
    assert out == "Sent 0 intents: 0 succeeded, 0 failed, 0 unknown."
    assert err.count("Leave transaction.atomic() first") == 3
