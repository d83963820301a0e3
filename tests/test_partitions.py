"""The key table in hash partitions, made by the migration that the documents show.

What counts is run once more on it: first executions, replays, conflicts, twins under each
isolation level, exceptions, purge, and the admin's search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.admin.people import LIST, detail, page, signed_in

# Collected here once more, on the partitioned table.
from tests.conformance.test_first_and_replay import (  # noqa: F401
    test_e5_an_exception_undoes_everything_and_frees_the_key,
    test_m1_another_body_is_refused_and_recorded,
    test_r1_a_retry_gets_the_first_response_byte_for_byte,
)
from tests.documents import DOCS, blocks, run
from tests.factories import IdempotencyKeyFactory, KeyEventFactory
from tests.orders.models import Order
from tests.sender import Sender, new_key
from tests.test_databases import options, test_twins_have_one_effect  # noqa: F401
from tests.test_purge import purge, test_a_key_in_flight_is_never_purged  # noqa: F401
from tests.test_races import (  # noqa: F401
    test_a_hot_key_is_replayed_without_refusals,
    test_simultaneous_first_requests_run_once,
    test_two_bodies_for_one_key_never_both_run,
)

pytestmark = pytest.mark.postgres

KEYS = IdempotencyKey._meta.db_table


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    (block,) = [one for one in blocks(DOCS / "scale.md", "python") if "PARTITION BY" in one]
    return run(block)


@pytest.fixture(scope="module")
def original(django_db_setup: None, django_db_blocker: Any) -> tuple[Any, ...]:
    """The table as our own migrations make it."""
    with django_db_blocker.unblock():
        return shape()


@pytest.fixture(scope="module", autouse=True)
def migrate(
    recipe: dict[str, Any], original: Any, django_db_blocker: Any
) -> Iterator[Callable[[str], None]]:
    """Apply the migration for all tests here; what is yielded goes back and forth."""
    migration = recipe["Migration"]("0001_partitions", "shop")

    def migrate(direction: str) -> None:
        with connection.schema_editor() as editor:
            getattr(migration, direction)(ProjectState(), editor)

    with django_db_blocker.unblock():
        migrate("apply")
        try:
            yield migrate
        finally:
            migrate("unapply")


@pytest.fixture(autouse=True)
def _usual_database(transactional_db: None) -> None:
    """Every test here commits."""


def asked(sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def partitions() -> dict[str, int]:
    """{name: rows} of the partitions."""
    found = asked(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", KEYS
    )
    return {name: asked(f"SELECT count(*) FROM {name}")[0][0] for (name,) in found}  # noqa: S608


def shape() -> tuple[Any, ...]:
    """Columns, constraints and indexes; of the names only those that migrations refer to."""
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, KEYS)
        found = connection.introspection.get_constraints(cursor, KEYS)
    facts = ("primary_key", "unique", "check", "index", "type", "orders")
    kinds = [
        (sorted(one["columns"] or ()), *(one.get(fact) for fact in facts)) for one in found.values()
    ]
    named = {name for name in found if name.startswith("idempotency_key_")}
    return columns, sorted(kinds, key=str), named


def test_the_table_is_the_same_but_for_its_partitions(
    migrate: Any, recipe: Any, original: Any
) -> None:
    """Columns, checks and indexes are those of our own migrations, there and back."""
    partitioned = shape()
    assert partitioned == original
    assert len(partitions()) == recipe["PARTITIONS"]

    migrate("unapply")
    plain, left = shape(), partitions()
    migrate("apply")

    assert left == {}
    assert plain == original
    assert {"idempotency_key_scope", "idempotency_key_is_named"} <= original[-1]


def test_keys_move_with_the_table(migrate: Any, send: Sender) -> None:
    """What was executed before the migration is replayed after it, in both directions."""
    keys = [new_key() for _ in range(5)]
    migrate("unapply")
    answers = [send("/apiview/", key=key).content for key in keys]

    migrate("apply")
    after = [send("/apiview/", key=key) for key in keys]
    migrate("unapply")
    back = [send("/apiview/", key=key) for key in keys]
    migrate("apply")

    assert [response.content for response in after] == answers
    assert [response.content for response in back] == answers
    assert all(response["Idempotent-Replayed"] == "true" for response in (*after, *back))
    assert Order.objects.count() == len(keys)


def test_keys_spread_over_all_partitions(send: Sender) -> None:
    """The id is a digest, so its hash favours none."""
    for _ in range(10):
        IdempotencyKeyFactory.create_batch(32)

    rows = partitions()

    assert sum(rows.values()) == 320
    assert min(rows.values()) > 0
    assert max(rows.values()) < 64


@pytest.mark.parametrize("kind", ["first", "replay", "conflict"])
def test_a_request_touches_one_partition_of_keys(send: Sender, kind: str) -> None:
    """The plans of its statements name no other: each asks by the whole primary key."""
    key = new_key()
    if kind != "first":
        send("/plain/", key=key)
    with CaptureQueriesContext(connection) as captured:
        send("/plain/", {"sku": "tea", "qty": 2 if kind == "conflict" else 1}, key=key)
    texts = [one["sql"] for one in captured.captured_queries if KEYS in one["sql"]]
    plans = ["\n".join(line for (line,) in asked(f"EXPLAIN {text}")) for text in texts]

    scanned = [set(re.findall(rf"Scan\b.* on ({KEYS}_\d+)", plan)) for plan in plans]

    assert len(plans) == (3 if kind == "first" else 1), texts
    assert [len(found) for found in scanned] == [1] * len(plans), plans
    assert len(set.union(*scanned)) == 1


def test_purge_takes_keys_and_trail_from_every_partition(capsys: Any) -> None:
    """All that is expired, in one run of small batches; what lives stays."""
    live = IdempotencyKeyFactory.create_batch(30, completed=True)
    for gone in IdempotencyKeyFactory.create_batch(60, completed=True, expired=True):
        KeyEventFactory(key=gone)
        KeyTally.objects.create(key=gone, replay_count=1)
    KeyEventFactory(key=live[0])

    assert purge(capsys, batch_size=7) == "Deleted 60 expired keys."

    assert set(IdempotencyKey.objects.all()) == set(live)
    assert KeyEvent.objects.get().key == live[0]
    assert not KeyTally.objects.exists()


def test_the_admin_finds_a_key_in_whichever_scope_and_partition() -> None:
    """Search by key, the list and the key's own page."""
    keys = IdempotencyKeyFactory.create_batch(20, completed=True)
    twin = IdempotencyKeyFactory(scope="user:2", key=keys[0].key, completed=True)
    client = signed_in(superuser=True)

    html, everything = page(client, LIST, {"q": keys[0].key}), page(client, LIST)

    assert all(detail(one) in html for one in (keys[0], twin))
    assert not any(detail(one) in html for one in keys[1:])
    assert all(detail(one) in everything for one in (*keys, twin))
    assert keys[0].key in page(client, detail(twin))
