"""The purge command deletes what is expired and nobody holds, and says what it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from django_idempotency import upkeep
from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from django_idempotency.sql import statements_for
from tests.factories import IdempotencyKeyFactory, KeyEventFactory
from tests.sender import new_key


def purge(capsys: Any, **options: Any) -> str:
    call_command("purge_idempotency_keys", **options)
    return str(capsys.readouterr().out).strip().splitlines()[-1]


@pytest.mark.django_db
def test_it_deletes_expired_keys_with_their_trail(capsys: Any) -> None:
    """Key, tally and events go together; a live key stays."""
    live = IdempotencyKeyFactory(completed=True)
    expired = IdempotencyKeyFactory.create_batch(5, completed=True, expired=True)
    KeyEventFactory(key=expired[0])
    KeyTally.objects.create(key=expired[0], replay_count=1)
    IdempotencyKeyFactory(expired=True)  # begun, never finished, and nobody holds it

    assert purge(capsys, batch_size=2) == "Deleted 6 expired keys."

    assert IdempotencyKey.objects.get() == live
    assert not KeyEvent.objects.exists()
    assert not KeyTally.objects.exists()


@pytest.mark.django_db
def test_a_dry_run_deletes_nothing(capsys: Any) -> None:
    """It counts what would go."""
    IdempotencyKeyFactory.create_batch(3, completed=True, expired=True)

    assert purge(capsys, dry_run=True) == "Would delete 3 expired keys."
    assert IdempotencyKey.objects.count() == 3


@pytest.mark.django_db
def test_history_can_be_kept_longer_than_the_responses(capsys: Any, settings: Any) -> None:
    """--keep-days, and the tombstones that ON_EXPIRED="reject" lives on."""
    IdempotencyKeyFactory(completed=True, expired=True)

    assert purge(capsys, keep_days=1) == "Deleted 0 expired keys."
    settings.IDEMPOTENCY = {"ON_EXPIRED": "reject"}
    assert purge(capsys) == "Deleted 0 expired keys."
    assert purge(capsys, keep_days=0) == "Deleted 1 expired keys."


@pytest.mark.django_db
def test_it_stops_when_its_time_is_up(capsys: Any) -> None:
    """--max-seconds ends it after the batch at hand."""
    IdempotencyKeyFactory.create_batch(3, completed=True, expired=True)

    told = purge(capsys, batch_size=1, max_seconds=0.0)

    assert told == "Deleted 1 expired keys. Time is up; more are left."


@pytest.mark.django_db
@pytest.mark.parametrize("size", [1, 2])
def test_it_says_that_keys_are_left_only_if_they_are(capsys: Any, size: int) -> None:
    """Time may be up when all is done: after a full batch, after one that was not full."""
    IdempotencyKeyFactory(completed=True, expired=True)
    IdempotencyKeyFactory(completed=True)

    assert purge(capsys, batch_size=size, max_seconds=0.0) == "Deleted 1 expired keys."


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 10_001},
        {"keep_days": -1},
        {"keep_days": float("nan")},
        {"keep_days": 1e9},
        {"max_seconds": -1},
        {"max_seconds": float("nan")},
    ],
    ids=str,
)
@pytest.mark.django_db
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    """With the rule in the message."""
    with pytest.raises(CommandError, match="must be"):
        call_command("purge_idempotency_keys", **options)


@pytest.mark.row_locks
def test_a_key_in_flight_is_never_purged(send: Any, after: Any, capsys: Any, settings: Any) -> None:
    """T4, T5: a request that outlives its key keeps it until it has finished."""
    settings.IDEMPOTENCY = {"RETENTION": timedelta(microseconds=1)}
    IdempotencyKeyFactory(completed=True, expired=True)
    key, purged = new_key(), []

    def purge_meanwhile(request: Any, order: Any) -> None:
        """From another connection, while the view runs and its key has long expired."""

        def other_worker() -> None:
            try:
                purged.append(purge(capsys, batch_size=1, max_seconds=0.0))
            finally:
                connections.close_all()

        thread = threading.Thread(target=other_worker)
        thread.start()
        thread.join(10)

    after(purge_meanwhile)

    assert send("/plain/", key=key).status_code == 201

    assert purged == ["Deleted 1 expired keys."]  # the old one, and that was all there is to do
    assert purge(capsys) == "Deleted 1 expired keys."


@pytest.fixture
def site_time(settings: Any, transactional_db: None) -> Iterator[None]:
    """USE_TZ=False, five hours behind: the database holds the site's own time."""
    settings.USE_TZ, settings.TIME_ZONE = False, "America/New_York"
    time.tzset()  # Django's settings do it, at the start
    connection.close()
    statements_for.cache_clear()
    yield
    settings.USE_TZ, settings.TIME_ZONE = True, "UTC"
    time.tzset()
    connection.close()
    statements_for.cache_clear()


@pytest.mark.usefixtures("site_time")
def test_a_site_without_time_zones_keeps_its_live_keys(send: Any, settings: Any) -> None:
    """Nothing is purged early, and what the client is told of the expiry is right."""
    settings.IDEMPOTENCY = {"RETENTION": timedelta(hours=1), "EXPOSE_EXPIRY": True}
    key = new_key()

    first = send("/plain/", key=key)
    assert upkeep.purge(limit=10) == 0
    assert "Idempotent-Replayed" in send("/plain/", key=key)

    expires = parsedate_to_datetime(first["Idempotency-Expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert len(upkeep.expire([IdempotencyKey.objects.get().pk]).changed) == 1
    time.sleep(0.002)  # a key expires after it was first seen, be it by a millisecond
    assert upkeep.purge(limit=10) == 1


def test_forgetting_finished_keys_ends_though_one_cannot_be_deleted(
    transactional_db: None, monkeypatch: Any
) -> None:
    """Batch by batch, each key once: what a trigger of the site keeps is not tried for ever."""
    monkeypatch.setattr(upkeep, "_BATCH", 2)
    rows = IdempotencyKeyFactory.create_batch(5, completed=True)
    kept, usual = rows[2].pk, upkeep._delete
    monkeypatch.setattr(
        upkeep, "_delete", lambda ids, alias: usual([it for it in ids if it != kept], alias)
    )

    upkeep.forget_finished(IdempotencyKey.objects.all())

    assert IdempotencyKey.objects.get().pk == kept
