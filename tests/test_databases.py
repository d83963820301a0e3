"""The same promise under other isolation levels, driver modes, routers and persistence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction

from django_idempotency.models import IdempotencyKey, KeyEvent
from django_idempotency.rows import EVENTS_PER_KIND
from tests.orders.models import Order
from tests.sender import Sender, new_key
from tests.test_races import together

TWINS = 8


class EverythingToOther:
    """Keys and orders live in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label in {"django_idempotency", "orders"} else None

    db_for_write = db_for_read


@pytest.fixture
def options(request: Any, transactional_db: None) -> Iterator[dict[str, Any]]:
    """Connections of this test with another isolation level, or with psycopg's own binding."""
    if connection.vendor == "mysql":
        if request.param not in ISOLATION:
            pytest.skip("a mode of psycopg")
        chosen: dict[str, Any] = {"isolation_level": request.param}
    elif request.param in ISOLATION:
        chosen = {"isolation_level": ISOLATION[request.param]}
    elif request.param in OF_THE_SERVER:
        level = request.param.removesuffix(OF_ALL).replace(" ", r"\ ")
        usual = connection.settings_dict["OPTIONS"].get("options", "")
        chosen = {"options": f"{usual} -c default_transaction_isolation={level}"}
    else:
        chosen = {"server_side_binding": True}
    entry = connection.settings_dict
    usual = entry["OPTIONS"]
    connection.close()
    entry["OPTIONS"] = usual | chosen
    yield entry["OPTIONS"]
    connection.close()
    entry["OPTIONS"] = usual


ISOLATION = {
    "read committed": 1,  # in psycopg's numbers
    "repeatable read": 3,
    "serializable": 4,
}
OF_ALL = ", of every statement"  # Django's setting is that of its transactions alone
OF_THE_SERVER = [f"{level}{OF_ALL}" for level in ("repeatable read", "serializable")]


@pytest.mark.row_locks
@pytest.mark.parametrize(
    "options", [*ISOLATION, *OF_THE_SERVER, "server-side binding"], indirect=True
)
def test_twins_have_one_effect(send: Any, options: Any, request: Any) -> None:
    """Simultaneous first requests: one row; 201 or 409; afterwards a replay."""
    key, barrier = new_key(), threading.Barrier(TWINS)
    answers: list[int] = []

    def twin() -> None:
        try:
            barrier.wait(10)
            answers.append(Sender()("/plain/", key=key).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=twin) for _ in range(TWINS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(answers) == TWINS
    # A serializable transaction may fail at its end for what it has only read.
    fails = "serializable" in request.node.name
    assert set(answers) <= ({201, 409, 503} if fails else {201, 409})
    last = send("/plain/", key=key)
    assert last.status_code == 201
    assert Order.objects.count() == 1
    assert send("/plain/", {"qty": 7}, key=key).status_code == 422


@pytest.mark.postgres  # the others count in a transaction with the level of all
@pytest.mark.parametrize("options", [*ISOLATION, *OF_THE_SERVER], indirect=True)
def test_replays_of_a_hot_key_are_all_counted(send: Any, options: Any) -> None:
    """200 from 8 threads, each counted once, and with an event up to the bound."""
    key = new_key()
    first = send("/plain/", key=key)

    batches = together(8, lambda _, send: [send("/plain/", key=key) for _ in range(25)])

    assert {answer.content for batch in batches for answer in batch} == {first.content}
    record = IdempotencyKey.objects.get()
    assert (record.replay_count, record.in_flight_count) == (200, 0)
    assert KeyEvent.objects.filter(kind="replayed").count() == EVENTS_PER_KIND


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
def test_keys_live_beside_the_rows_they_protect(settings: Any, after: Any, way: str) -> None:
    """A router decides; claim, view and response share its database and its rollback."""
    settings.DATABASE_ROUTERS = [EverythingToOther()]
    send, key = Sender(), new_key()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send(way, key=key).status_code == 500
    assert not Order.objects.using("other").exists()
    after(lambda request, order: None)

    assert send(way, key=key).status_code == 201
    assert send(way, key=key)["Idempotent-Replayed"] == "true"
    assert send(way, {"qty": 3}, key=key).status_code == 422
    assert Order.objects.using("other").count() == 1
    assert IdempotencyKey.objects.using("other").get().replay_count == 1
    assert KeyEvent.objects.using("other").filter(kind="conflict").count() == 1
    assert not IdempotencyKey.objects.using("default").exists()


def test_an_enclosing_transaction_is_refused_loudly(send: Any) -> None:
    """The claim could not be committed, so nothing runs."""
    send.client.raise_request_exception = True

    with pytest.raises(ImproperlyConfigured, match="atomic"), transaction.atomic():
        send("/plain/", key=new_key())

    assert not Order.objects.exists()


def test_a_persistent_connection_serves_many_keys(send: Any) -> None:
    """CONN_MAX_AGE: nothing of one request is left in the session for the next."""
    entry = connection.settings_dict
    entry["CONN_MAX_AGE"], usual = 60, entry["CONN_MAX_AGE"]
    try:
        for _ in range(3):
            key = new_key()
            assert send("/plain/", key=key).status_code == 201
            assert send("/plain/", key=key).status_code == 201
        assert Order.objects.count() == 3
        assert _session_setting() == "on"
    finally:
        entry["CONN_MAX_AGE"] = usual


def _session_setting() -> str:
    """Whether a commit waits for the disk: the claim must not switch that off for good."""
    if connection.vendor != "postgresql":
        return "on"
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'")
        setting, source = cursor.fetchone()
    return "on" if source != "session" else str(setting)


@pytest.mark.row_locks
@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_a_claim_does_not_shorten_what_the_view_waits(send: Any, after: Any, way: str) -> None:
    """How long a claim waits for its twin is no time limit of the view, nor of who comes next."""
    seen = []
    after(lambda request, order: seen.append(_lock_timeout()))
    usual = _lock_timeout()

    assert send(way, key=new_key()).status_code == 201

    assert [*seen, _lock_timeout()] == [usual, usual]


def _lock_timeout() -> str:
    """How long this session waits for a lock."""
    mysql = connection.vendor == "mysql"
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_lock_wait_timeout" if mysql else "SHOW lock_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
def test_it_works_inside_a_test_case() -> None:
    """The transaction that wraps a TestCase does not count as an enclosing one."""
    send, key = Sender(), new_key()

    assert send("/apiview/", key=key).status_code == 201
    assert send("/apiview/", key=key)["Idempotent-Replayed"] == "true"
    assert send("/apiview/", {"qty": 2}, key=key).status_code == 422
