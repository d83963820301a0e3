"""Keys in shards beside the business rows, with the router that the documents show.

A tenant's host decides which of two databases has his keys and his orders.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from django.db import connections, router

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.conformance.test_crashes import die, in_child
from tests.documents import DOCS, blocks
from tests.factories import IdempotencyKeyFactory
from tests.orders.models import Order
from tests.sender import ROWS, Sender, new_key
from tests.test_purge import purge

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

SHARDED = (IdempotencyKey, KeyTally, KeyEvent, Order)
TWINS = 6
PATIENCE = 30  # seconds

every_way = pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/plain/", "/async/"])


@pytest.fixture(autouse=True)
def shards(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the documents, in force."""
    (block,) = [one for one in blocks(DOCS / "scale.md", "python") if "class ShardRouter" in one]
    module: Any = ModuleType("shop.shards")
    exec(compile(block, "<shop.shards>", "exec"), vars(module))  # noqa: S102 - our own document
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.shards", module)
    settings.DATABASE_ROUTERS = ["shop.shards.ShardRouter"]
    settings.MIDDLEWARE = ["shop.shards.ShardMiddleware", *settings.MIDDLEWARE]
    settings.ALLOWED_HOSTS = [".example"]
    return module


@pytest.fixture
def hosts(shards: Any) -> dict[str, str]:
    """A tenant's host for each shard."""
    tenants = [f"tenant{number}" for number in range(20)]
    return {shards.shard_of(tenant): f"{tenant}.example" for tenant in tenants}


def rows(shard: str) -> dict[str, int]:
    return {model.__name__: model._default_manager.using(shard).count() for model in SHARDED}


EMPTY = dict.fromkeys((model.__name__ for model in SHARDED), 0)


@every_way
@pytest.mark.parametrize(("shard", "idle"), [("default", "other"), ("other", "default")])
def test_key_trail_and_order_are_in_the_tenants_shard(
    hosts: dict[str, str], way: str, shard: str, idle: str
) -> None:
    """First, replay, conflict: all in one database, nothing in the other."""
    send, key = Sender(), new_key()

    first, retry = (send(way, key=key, Host=hosts[shard]) for _ in range(2))
    other = send(way, {"sku": "tea", "qty": 9}, key=key, Host=hosts[shard])

    assert (first.status_code, other.status_code) == (201, 422)
    assert (retry.content, retry["Idempotent-Replayed"]) == (first.content, "true")
    assert rows(shard) == {"IdempotencyKey": 1, "KeyTally": 1, "KeyEvent": 2, "Order": 1}
    assert rows(idle) == EMPTY


@pytest.mark.postgres
@every_way
def test_response_and_order_are_one_transaction_of_the_shard(
    hosts: dict[str, str], way: str
) -> None:
    """Both rows were written by the transaction with the same number."""
    for shard, host in hosts.items():
        assert Sender()(way, key=new_key(), Host=host).status_code == 201

        with connections[shard].cursor() as cursor:
            cursor.execute(
                "SELECT k.xmin::text, o.xmin::text "
                "FROM django_idempotency_idempotencykey AS k, orders_order AS o"
            )
            ((of_the_response, of_the_order),) = cursor.fetchall()

        assert of_the_response == of_the_order


@every_way
def test_an_exception_undoes_both(hosts: dict[str, str], after: Any, way: str) -> None:
    """No order, no response; the key is free, and its retry executes in the same shard."""
    send, key, host = Sender(), new_key(), hosts["other"]

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send(way, key=key, Host=host).status_code == 500
    assert not Order.objects.using("other").exists()
    assert IdempotencyKey.objects.using("other").get().completed_at is None
    after(lambda request, order: None)

    assert send(way, key=key, Host=host).status_code == 201

    assert rows("other")["Order"] == 1
    assert rows("default") == EMPTY


@every_way
def test_a_killed_worker_leaves_neither(hosts: dict[str, str], after: Any, way: str) -> None:
    """Killed after the order was written: it is gone from the shard, and the retry executes."""
    key, host = new_key(), hosts["other"]
    after(die)
    assert in_child(lambda: Sender()(way, key=key, Host=host)) == signal.SIGKILL
    assert not Order.objects.using("other").exists()
    after(lambda request, order: None)

    retry = _until_free(way, key, host)

    assert retry.status_code == 201
    assert "Idempotent-Replayed" not in retry
    assert rows("other")["Order"] == 1
    assert rows("default") == EMPTY


def _until_free(way: str, key: str, host: str) -> Any:
    """Retry while the server has not noticed yet that its client is gone, some milliseconds."""
    for _ in range(100):
        response = Sender()(way, key=key, Host=host)
        if response.status_code != 409:
            break
    return response


@every_way
def test_the_same_key_of_tenants_in_two_shards_is_two_keys(hosts: dict[str, str], way: str) -> None:
    """Neither sees the other's response."""
    send, key = Sender(), new_key()

    firsts = {shard: send(way, key=key, Host=host) for shard, host in hosts.items()}
    retries = {shard: send(way, key=key, Host=host) for shard, host in hosts.items()}

    for shard in hosts:
        assert "Idempotent-Replayed" not in firsts[shard]
        assert retries[shard]["Idempotent-Replayed"] == "true"
        assert retries[shard].content == firsts[shard].content
        assert rows(shard) == {"IdempotencyKey": 1, "KeyTally": 1, "KeyEvent": 1, "Order": 1}


@pytest.mark.row_locks
def test_twins_of_both_shards_at_once_have_one_effect_each(hosts: dict[str, str]) -> None:
    """Simultaneous first requests of two tenants with one key."""
    key, barrier = new_key(), threading.Barrier(2 * TWINS)

    def twin(host: str) -> int:
        try:
            barrier.wait(PATIENCE)
            return int(Sender()("/apiview/", key=key, Host=host).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2 * TWINS) as pool:
        answers = list(pool.map(twin, [*hosts.values()] * TWINS))

    assert set(answers) <= {201, 409}
    for shard in hosts:
        seen = IdempotencyKey.objects.using(shard).get()
        assert Order.objects.using(shard).count() == 1
        assert seen.completed_at is not None
    counted = Counter(KeyEvent.objects.using("default").values_list("kind", flat=True))
    counted.update(KeyEvent.objects.using("other").values_list("kind", flat=True))
    assert (counted["replayed"], counted["in_flight"]) == (
        answers.count(201) - 2,
        answers.count(409),
    )


def test_requests_without_a_key_keep_atomic_requests(
    hosts: dict[str, str], after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATOMIC_REQUESTS on every shard: a keyed view owns its transaction, any other is in one."""
    for shard in hosts:
        monkeypatch.setitem(connections.settings[shard], "ATOMIC_REQUESTS", True)
    send, key = Sender(), new_key()
    assert send("/apiview/", key=key, Host=hosts["other"]).status_code == 201
    assert send("/apiview/", key=key, Host=hosts["other"])["Idempotent-Replayed"] == "true"

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    assert send("/apiview/", ROWS, Host=hosts["other"]).status_code == 500

    assert rows("other")["Order"] == 1
    assert rows("default") == EMPTY


@pytest.mark.parametrize("by_name", [True, False])
def test_each_shard_is_purged_in_its_turn(shards: Any, capsys: Any, *, by_name: bool) -> None:
    """``--database``, or ``with on(shard):`` around the command; other shards are left alone."""
    for shard in shards.SHARDS:
        with shards.on(shard):
            IdempotencyKeyFactory(completed=True)
            IdempotencyKeyFactory.create_batch(2, completed=True, expired=True)

    with shards.on("default" if by_name else "other"):
        named = {"database": "other"} if by_name else {}
        assert purge(capsys, **named, dry_run=True) == "Would delete 2 expired keys."
        assert purge(capsys, **named, batch_size=1, max_seconds=0).endswith("more are left.")
        assert purge(capsys, **named) == "Deleted 1 expired keys."

    assert rows("other")["IdempotencyKey"] == 1
    assert rows("default")["IdempotencyKey"] == 3


def test_a_request_leaves_no_shard_behind(shards: Any, hosts: dict[str, str]) -> None:
    """The next one in the same thread begins where every one begins."""
    Sender()("/plain/", key=new_key(), Host=hosts["other"])

    assert router.db_for_write(IdempotencyKey) == shards.SHARDS[0]
