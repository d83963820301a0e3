"""What people may do to keys: asked first, logged, and never to a key in use."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.messages import get_messages
from django.db import connections
from django.test import Client
from django.utils import timezone

from django_idempotency import upkeep
from django_idempotency.admin import actions
from django_idempotency.admin.export import safe
from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.admin.people import EXPORT, FORGET, LIST, PAYLOAD, VIEW, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.django_db


def asked(client: Client, action: str, *keys: IdempotencyKey, **more: str) -> Any:
    """The question that comes first."""
    return client.post(LIST, {"action": action, "_selected_action": [k.pk for k in keys], **more})


def done(client: Client, action: str, *keys: IdempotencyKey, **more: str) -> list[str]:
    """What is reported when the question has been answered with yes."""
    response = asked(client, action, *keys, confirmed="yes", **more)
    assert response.status_code == 302
    return [str(message) for message in get_messages(response.wsgi_request)]


def logged() -> list[tuple[str, int]]:
    entries = LogEntry.objects.order_by("pk")
    return [(str(entry.object_id), entry.action_flag) for entry in entries]


@pytest.fixture
def key() -> IdempotencyKey:
    key = IdempotencyKeyFactory(completed=True)
    KeyEventFactory(key=key)
    KeyTally.objects.create(key=key, replay_count=1)
    assert isinstance(key, IdempotencyKey)
    return key


@pytest.mark.parametrize("action", ["forget_keys", "expire_keys", "export_keys"])
def test_each_action_asks_first(action: str, key: IdempotencyKey) -> None:
    """Nothing is done or logged before; the question names the key."""
    before = IdempotencyKey.objects.values().get()

    html = asked(signed_in(superuser=True), action, key).content.decode()

    assert key.key in html
    assert f'name="_selected_action" value="{key.pk}"' in html
    assert IdempotencyKey.objects.values().get() == before
    assert not logged()


def test_forgetting_warns_of_a_second_execution(key: IdempotencyKey) -> None:
    """In an alert that a screen reader reads out."""
    html = asked(signed_in(VIEW, FORGET), "forget_keys", key).content.decode()

    assert 'role="alert"' in html
    assert "What was done once can then be done twice." in html


def test_a_forgotten_key_is_gone_with_its_trail(key: IdempotencyKey) -> None:
    """Others stay; the log says who forgot which."""
    other = IdempotencyKeyFactory(completed=True)

    told = done(signed_in(VIEW, FORGET), "forget_keys", key)

    assert told == ["Forgot 1 key."]
    assert IdempotencyKey.objects.get() == other
    assert not KeyEvent.objects.exists()
    assert not KeyTally.objects.exists()
    assert logged() == [(str(key.pk), DELETION)]
    entry = LogEntry.objects.get()
    assert entry.object_repr == key.key
    assert entry.change_message == "Forgot the key with its history: its next request executes."


def test_the_next_request_of_a_forgotten_key_executes(send: Any) -> None:
    """Effects are counted: one before, none by the replay, one after."""
    name = new_key()
    send("/plain/", key=name)
    send("/plain/", key=name)
    assert Order.objects.count() == 1

    done(signed_in(VIEW, FORGET), "forget_keys", IdempotencyKey.objects.get())

    assert send("/plain/", key=name).headers.get("Idempotent-Replayed") is None
    assert Order.objects.count() == 2


def test_an_expired_key_keeps_its_history(key: IdempotencyKey) -> None:
    """Its response is no longer replayed; when it was first seen stands."""
    told = done(signed_in(VIEW, FORGET), "expire_keys", key)

    assert told == ["Expired 1 key."]
    now = IdempotencyKey.objects.get()
    assert now.created_at == key.created_at
    assert now.expires_at <= timezone.now() + timedelta(seconds=1)
    assert IdempotencyKey.objects.expired().exists() or now.expires_at > now.created_at
    assert now.response_status == 201
    assert KeyEvent.objects.exists()
    assert logged() == [(str(key.pk), CHANGE)]


def test_the_next_request_of_an_expired_key_executes(send: Any) -> None:
    """With ON_EXPIRED="execute", the default."""
    name = new_key()
    send("/plain/", key=name)

    done(signed_in(VIEW, FORGET), "expire_keys", IdempotencyKey.objects.get())

    send("/plain/", key=name)
    assert Order.objects.count() == 2


def test_there_may_be_nothing_to_expire() -> None:
    """An unfinished key is free as it is; an expired one is not expired again."""
    unfinished = IdempotencyKeyFactory(created_at=timezone.now() - timedelta(hours=1))
    expired = IdempotencyKeyFactory(completed=True, expired=True)

    told = done(signed_in(VIEW, FORGET), "expire_keys", unfinished, expired)

    assert told[0].startswith("2 keys had nothing to expire")
    kept = {row.pk: row.expires_at for row in IdempotencyKey.objects.all()}
    assert kept == {unfinished.pk: unfinished.expires_at, expired.pk: expired.expires_at}
    assert not logged()


@pytest.mark.parametrize(
    ("on_expired", "text"),
    [("execute", "it is executed again"), ("reject", "it gets no stored response any more")],
)
def test_expiring_says_what_it_means_here(
    on_expired: str, text: str, key: IdempotencyKey, settings: Any
) -> None:
    """It depends on ON_EXPIRED."""
    settings.IDEMPOTENCY = {"ON_EXPIRED": on_expired}

    assert text in asked(signed_in(VIEW, FORGET), "expire_keys", key).content.decode()


@pytest.mark.parametrize("action", ["forget_keys", "expire_keys"])
def test_a_key_that_is_gone_is_no_error(action: str, key: IdempotencyKey) -> None:
    """Purged while the question was read."""
    client = signed_in(VIEW, FORGET)
    IdempotencyKey.objects.all().delete()

    assert done(client, action, key) == ["The keys are gone already."]


@pytest.mark.row_locks
@pytest.mark.parametrize("action", ["forget_keys", "expire_keys"])
def test_a_key_in_flight_is_left_alone(
    action: str, send: Any, after: Callable[..., None], django_user_model: Any
) -> None:
    """While its request runs, in whatever state of it; the report says so, the log nothing."""
    client, name, told = signed_in(VIEW, FORGET), new_key(), []
    other = IdempotencyKeyFactory(completed=True)

    def act_meanwhile(request: Any, order: Any) -> None:
        def other_worker() -> None:
            try:
                running = IdempotencyKey.objects.get(key=name)
                told.extend(done(client, action, running, other))
            finally:
                connections.close_all()

        thread = threading.Thread(target=other_worker)
        thread.start()
        thread.join(20)

    after(act_meanwhile)

    assert send("/plain/", key=name).status_code == 201

    assert told[0] in {"Forgot 1 key.", "Expired 1 key."}  # the other one
    assert told[1].startswith("1 key is in use by a request and was left alone.")
    key = IdempotencyKey.objects.get(key=name)
    assert key.expires_at > timezone.now() + timedelta(hours=1)
    assert [entry[0] for entry in logged()] == [str(other.pk)]
    assert send("/plain/", key=name).headers["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_upkeep_names_what_it_did(key: IdempotencyKey) -> None:
    """By primary key: done, held, idle; the unknown in none."""
    unknown = IdempotencyKeyFactory.build().pk

    assert upkeep.expire([key.pk, unknown]).changed == {key.pk}
    assert upkeep.forget([key.pk, unknown]) == upkeep.Done(
        changed=frozenset({key.pk}), held=frozenset()
    )
    assert upkeep.forget([]).changed == frozenset()


def test_too_many_keys_at_once_are_refused(monkeypatch: Any, key: IdempotencyKey) -> None:
    """Each row is locked until all are done."""
    monkeypatch.setattr(actions, "AT_ONCE", 2)
    IdempotencyKeyFactory.create_batch(2, completed=True)
    client = signed_in(VIEW, FORGET)

    told = done(client, "forget_keys", key, select_across="1")

    assert told == ["At most 2 keys at once. Choose fewer."]
    assert IdempotencyKey.objects.count() == 3


def test_all_pages_together_are_confirmed_by_name() -> None:
    """What is confirmed is what was shown, not what came since."""
    IdempotencyKeyFactory.create_batch(3, completed=True)
    client = signed_in(VIEW, FORGET)
    key = IdempotencyKey.objects.first()
    assert key is not None

    html = asked(client, "forget_keys", key, select_across="1").content.decode()

    assert html.count('name="_selected_action" value="') == 3
    assert 'name="select_across"' not in html


@pytest.mark.parametrize("odd", ["x", "", "%00", "1; DROP TABLE"])
@pytest.mark.parametrize("action", ["forget_keys", "export_keys", "no_such_action"])
def test_an_odd_id_is_no_error(odd: str, action: str, key: IdempotencyKey) -> None:
    """Nor an action that does not exist."""
    data = {"action": action, "_selected_action": [odd], "confirmed": "yes"}

    assert signed_in(superuser=True).post(LIST, data).status_code == 302
    assert IdempotencyKey.objects.exists()


# -- export


def rows_of(response: Any) -> list[dict[str, str]]:
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="idempotency-keys-')
    return list(csv.DictReader(io.StringIO(response.content.decode(), newline="")))


def test_the_export_has_a_line_for_each_key(key: IdempotencyKey) -> None:
    """Without header values and bodies unless they were asked for and may be seen."""
    client = signed_in(VIEW, EXPORT, PAYLOAD)

    (row,) = rows_of(asked(client, "export_keys", key, confirmed="yes"))

    assert (row["key"], row["client"], row["status"], row["replays"]) == (
        *(key.key, "user:1", "201", "1"),
    )
    assert row["state"] == "completed"
    assert "response_body" not in row
    (row,) = rows_of(asked(client, "export_keys", key, confirmed="yes", bodies="1"))
    assert row["response_headers"] == "Content-Type: application/json"
    assert row["response_body"] == '{\n  "id": 1\n}'
    assert logged() == [(str(key.pk), CHANGE)] * 2
    messages = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert messages == ["Exported.", "Exported with the stored payload."]


def test_bodies_are_offered_to_those_who_may_see_them(key: IdempotencyKey) -> None:
    """As a choice, not by default."""
    for allowed in (True, False):
        client = signed_in(VIEW, EXPORT, *([PAYLOAD] if allowed else []))
        html = asked(client, "export_keys", key).content.decode()
        assert ('name="bodies"' in html) is allowed


def test_exported_bodies_are_redacted_and_bounded() -> None:
    """As on the page: hidden where sensitive, cut where long, described where not text."""
    secret = IdempotencyKeyFactory(completed=True, response_body=b'{"password": "S3CRET"}')
    long = IdempotencyKeyFactory(completed=True, response_body=b"y" * 100_000)
    binary = IdempotencyKeyFactory(completed=True, response_body=b"\xff\x00")
    client = signed_in(VIEW, EXPORT, PAYLOAD)

    response = asked(client, "export_keys", secret, long, binary, confirmed="yes", bodies="1")

    bodies = {row["key"]: row["response_body"] for row in rows_of(response)}
    assert "S3CRET" not in bodies[secret.key]
    assert len(bodies[long.key]) < 32_767
    assert bodies[binary.key].startswith("(2 bytes, SHA-256 ")


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "=cmd|' /C calc'!A0"),
        "\u00a0=1",
    ],
)
def test_no_cell_is_a_formula(text: str) -> None:
    """A spreadsheet would compute it, or start a program."""
    assert str(safe(text)).startswith("'")
    key = IdempotencyKeyFactory(completed=True, key=f"{text}x", user_agent=text)
    (row,) = rows_of(asked(signed_in(VIEW, EXPORT), "export_keys", key, confirmed="yes"))
    assert row["key"] == f"'{text}x"
    assert row["user_agent"] == f"'{text}"


def test_ordinary_cells_stay_as_they_are() -> None:
    """Numbers are numbers, and text that is no formula is not touched."""
    assert [safe(value) for value in (5, -5, None, "plain", "a=b")] == [5, -5, None, "plain", "a=b"]


def test_a_whole_selection_is_exported_by_its_filters(key: IdempotencyKey) -> None:
    """Across pages: ten thousand ids would not fit into a form."""
    IdempotencyKeyFactory.create_batch(3, completed=True, method="PATCH")
    client = signed_in(VIEW, EXPORT)
    url = f"{LIST}?method=PATCH"
    data = {"action": "export_keys", "_selected_action": [key.pk], "select_across": "1"}

    html = client.post(url, data).content.decode()
    assert 'name="select_across" value="1"' in html
    assert "3 keys" in html
    answer = {"action": "export_keys", "_selected_action": "", "select_across": "1"}
    response = client.post(url, answer | {"confirmed": "yes"})

    assert {row["method"] for row in rows_of(response)} == {"PATCH"}
    assert LogEntry.objects.count() == 3
