"""Rows R8, X10 and T6 of the specification: whose data and whose clock decide."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.conformance.views_more import Gate
from tests.orders.models import Order
from tests.sender import Sender, new_key

every_kind = pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])


class Replica:
    """Reads go to ``other``, which is a replica that lags for ever; writes to ``default``."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@every_kind
def test_r8_a_replica_is_never_asked(settings: Any, way: str) -> None:
    """R8: claim, replay, conflict and purge read where they write, whatever a router says."""
    settings.DATABASE_ROUTERS = [Replica()]
    send, key = Sender(), new_key()

    with CaptureQueriesContext(connections["other"]) as at_the_replica:
        answers = [send(way, key=key) for _ in range(3)]
        answers.append(send(way, {"sku": "tea", "qty": 2}, key=key))
        call_command("purge_idempotency_keys")

    assert [answer.status_code for answer in answers] == [201, 201, 201, 422]
    assert [is_replay(answer) for answer in answers] == [False, True, True, False]
    assert Order.objects.using("default").count() == 1
    asked = [query["sql"] for query in at_the_replica.captured_queries]
    assert not [text for text in asked if "idempotency" in text]
    assert KeyTally.objects.using("default").get().replay_count == 2
    assert not IdempotencyKey.objects.using("other").exists()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_r8_a_replica_that_has_another_response_is_not_believed(settings: Any) -> None:
    """R8: neither for a replay nor for a first request."""
    send, key = Sender(), new_key()
    first = send("/plain/", key=key)
    (record,) = IdempotencyKey.objects.all()
    record.response_body = b"stale"
    record.save(using="other")
    settings.DATABASE_ROUTERS = [Replica()]

    assert send("/plain/", key=key).content == first.content
    IdempotencyKey.objects.using("default").all()._raw_delete("default")
    assert not is_replay(send("/plain/", key=key))
    assert Order.objects.using("default").count() == 2


@every_kind
@pytest.mark.parametrize("hours", [-48, 48])
def test_x10_the_clock_of_a_server_expires_nothing(send: Any, way: str, hours: int) -> None:
    """X10: two days fast or slow, it is the database's time that counts."""
    key, wrong = new_key(), timezone.now() + timedelta(hours=hours)
    with time_machine.travel(wrong):
        send(way, key=key)
    record = IdempotencyKey.objects.get()
    assert abs(record.created_at - timezone.now()) < timedelta(minutes=5)
    kept = record.expires_at - record.created_at
    assert abs(kept - timedelta(hours=24)) < timedelta(seconds=1)

    assert is_replay(send(way, key=key))
    with time_machine.travel(wrong):
        assert is_replay(send(way, key=key))
    assert Order.objects.count() == 1


@pytest.mark.row_locks
@pytest.mark.parametrize("minutes", [-10, 10])
def test_x10_the_clock_of_a_server_takes_nothing_over(send: Any, after: Any, minutes: int) -> None:
    """X10: a key in flight is held by a lock, which no clock opens."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/plain/", key=key) as first:
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            assert send("/plain/", key=key).status_code == 409
        assert first.answer().status_code == 201

    assert Order.objects.count() == 1


@every_kind
def test_t6_the_expiry_of_a_late_success_is_the_one_in_force(
    send: Any, after: Any, settings: Any, way: str
) -> None:
    """T6: after a failure long ago, the first response tells the expiry that its replays tell."""
    settings.IDEMPOTENCY = {"EXPOSE_EXPIRY": True}
    key = new_key()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send(way, key=key).status_code == 500
    past = timezone.now() - timedelta(hours=30)
    IdempotencyKey.objects.update(created_at=past, expires_at=past + timedelta(hours=24))
    after(lambda request, order: None)

    first, retry = send(way, key=key), send(way, key=key)

    assert is_replay(retry)
    assert parsedate_to_datetime(retry["Idempotency-Expires"]) > timezone.now()
    assert first["Idempotency-Expires"] == retry["Idempotency-Expires"]
