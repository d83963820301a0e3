"""Keys and clients are equal only to themselves, whatever the database thinks of case.

MySQL and MariaDB compare text without case and without spaces at its end, unless the column
says otherwise; PostgreSQL and SQLite do not, and pass these tests as they are.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection

from django_idempotency.contrib.outbound import OutboundIntent
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import IdempotencyKey
from django_idempotency.protocol import KeyedRequest
from django_idempotency.receivers import forget_user
from django_idempotency.store import Store
from tests.factories import IdempotencyKeyFactory
from tests.orders.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

ALIKE = ("abc-DEF-0123456789", "ABC-def-0123456789", '"abc-DEF-0123456789 "')


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_keys_that_look_alike_are_different_operations(send: Any, way: str) -> None:
    """Case and a space at the end make another key: each runs, each replays its own answer."""
    first = [send(way, key=key) for key in ALIKE]
    again = [send(way, key=key) for key in ALIKE]

    assert [answer.status_code for answer in first] == [201] * 3
    assert Order.objects.count() == 3
    assert [answer.content for answer in again] == [answer.content for answer in first]
    assert all(answer["Idempotent-Replayed"] == "true" for answer in again)


def test_a_search_finds_the_very_key_in_every_scope() -> None:
    """Exactly that key, and no other that looks like it."""
    wanted = {IdempotencyKeyFactory(scope=f"user:{n}", key="Wanted").pk for n in range(20)}
    for key in ("wanted", "Wanted ", "WANTED"):
        IdempotencyKeyFactory(key=key)

    assert {key.pk for key in IdempotencyKey.objects.for_key("Wanted")} == wanted


def test_clients_that_look_alike_are_different_clients() -> None:
    """Filters and the clean-up after a deleted user mean one client."""
    scopes = ("user:ab", "user:AB", "user:ab ", "user:äb")
    for scope in scopes:
        IdempotencyKeyFactory(scope=scope, completed=True)
    for scope in scopes:
        assert [key.scope for key in IdempotencyKey.objects.filter(scope=scope)] == [scope]

    class User:
        pk = "ab"

    forget_user(instance=User())

    assert set(IdempotencyKey.objects.values_list("scope", flat=True)) == {*scopes} - {"user:ab"}


def test_a_key_that_is_one_space_is_a_key() -> None:
    """A structured-field string may be; a database that ignores spaces would call it empty."""
    assert IdempotencyKeyFactory(key=" ").pk
    with pytest.raises(IntegrityError):
        IdempotencyKeyFactory(key="")


@pytest.mark.parametrize("lie", [{"scope": ""}, {"fingerprints": ("",)}])
def test_a_claim_that_breaks_a_rule_fails_and_is_not_taken_for_a_duplicate(lie: Any) -> None:
    """INSERT IGNORE would skip the row, and the key would be in flight for ever."""
    usual = {"scope": "user:1", "fingerprints": ("0" * 64,)}
    request = KeyedRequest(
        key="k", method="POST", path="/", route="r", retention=timedelta(1), **{**usual, **lie}
    )

    with pytest.raises(StoreUnavailable):
        Store(request).reserve()


def test_objects_that_look_alike_have_outbound_intents_of_their_own() -> None:
    """Else two of them would share one key, and the second would never be charged."""
    intents = []
    for pk in ("aBc", "AbC", "abc", "abc "):
        obj = Session(session_key=pk)
        obj._state.adding = False  # where its own table stands does not matter
        intents += [OutboundIntent.for_object(obj, purpose) for purpose in ("charge", "Charge")]

    assert len({intent.key for intent in intents}) == 8
    for intent in intents:
        facts = {"object_id": intent.object_id, "purpose": intent.purpose}
        assert OutboundIntent.objects.get(**facts) == intent


def test_an_id_may_be_any_sixteen_bytes() -> None:
    """Digests have no UUID version, which MariaDB's own type insists on; they sort by bytes."""
    names = [f"{first:02x}" + "00" * 7 + "ff" * 8 for first in (0, 1, 0x7F, 0x80, 0xFF)]
    for name in reversed(names):
        IdempotencyKeyFactory(id=name)

    found = IdempotencyKey.objects.order_by("pk").values_list("pk", flat=True)

    assert [pk.hex for pk in found] == names


def test_the_id_is_searched_by_its_index() -> None:
    """for_key() is a range of the primary key on every server, not a look at each row."""
    for _ in range(300):
        IdempotencyKeyFactory()
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE TABLE django_idempotency_idempotencykey")

    plan = IdempotencyKey.objects.for_key("Wanted").order_by().explain().lower()

    scans = {"mysql": " all ", "sqlite": "scan ", "postgresql": "seq scan"}
    assert scans[connection.vendor] not in plan, plan
