"""Many clients, one key: it runs once, nobody gets a wrong answer, every use is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction

from django_idempotency import sql
from django_idempotency.models import IdempotencyKey, KeyEvent
from tests.orders.models import Order
from tests.sender import ROWS, Sender, new_key

pytestmark = pytest.mark.row_locks  # SQLite has one writer, so there is nothing to race for

PATIENCE = 30  # seconds; a barrier that takes as long is broken
PROMPT = 5  # seconds; what waits for another request's commit takes longer
OTHER_ROWS = {"sku": "tea", "qty": 2}

both_ways = pytest.mark.parametrize("way", ["/plain/", "/apiview/"])


def together(threads: int, act: Callable[[int, Sender], Any]) -> list[Any]:
    """What ``act(number, send)`` returns in each thread, all let go at the same moment."""
    barrier = threading.Barrier(threads, timeout=PATIENCE)

    def run(number: int) -> Any:
        try:
            send = Sender()
            connections["default"].ensure_connection()  # the race is not about connecting
            barrier.wait()
            return act(number, send)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@both_ways
@pytest.mark.parametrize("round_number", range(5))
def test_simultaneous_first_requests_run_once(send: Sender, way: str, round_number: int) -> None:
    """One executes, the others get its response or 409 and are counted as such."""
    key = new_key()

    responses = together(20, lambda _, send: send(way, key=key))

    seen = Counter(response.status_code for response in responses)
    assert set(seen) <= {201, 409}
    assert Order.objects.count() == 1
    done = [response for response in responses if response.status_code == 201]
    assert len({response.content for response in done}) == 1
    replays = sum("Idempotent-Replayed" in response for response in done)
    assert replays == len(done) - 1
    record = IdempotencyKey.objects.get()
    assert (record.replay_count, record.in_flight_count) == (replays, seen[409])
    assert (record.conflict_count, record.failure_count) == (0, 0)
    assert KeyEvent.objects.filter(kind="in_flight").count() == seen[409]
    retry = send(way, key=key)
    assert (retry.status_code, retry.content) == (201, done[0].content)
    assert retry["Idempotent-Replayed"] == "true"


@both_ways
def test_a_hot_key_is_replayed_without_refusals(send: Sender, way: str) -> None:
    """200 replays from 8 threads: none is refused, none is lost from the count."""
    key = new_key()
    first = send(way, key=key)

    batches = together(8, lambda _, send: [send(way, key=key) for _ in range(25)])

    responses = [response for batch in batches for response in batch]
    assert Counter(response.status_code for response in responses) == {201: 200}
    assert {response.content for response in responses} == {first.content}
    assert all("Idempotent-Replayed" in response for response in responses)
    assert Order.objects.count() == 1
    record = IdempotencyKey.objects.get()
    assert (record.replay_count, record.in_flight_count) == (200, 0)
    # Of a hot key's events the first hundred are kept. Nothing locks them against a twin
    # that counts at the same moment, but each sees a different count, so the limit holds.
    assert KeyEvent.objects.filter(kind="replayed").count() == 100


@both_ways
def test_two_bodies_for_one_key_never_both_run(send: Sender, way: str) -> None:
    """Whichever comes first owns the key; the other body is refused and counted."""
    key = new_key()
    bodies = [ROWS, OTHER_ROWS] * 4

    responses = together(8, lambda number, send: send(way, bodies[number], key=key))

    seen = Counter(response.status_code for response in responses)
    assert set(seen) <= {201, 409, 422}
    order = Order.objects.get()
    for body, response in zip(bodies, responses, strict=True):
        if response.status_code == 201:
            assert (response.json()["id"], body["qty"]) == (order.pk, order.qty)
    record = IdempotencyKey.objects.get()
    assert record.conflict_count == seen[422]
    assert KeyEvent.objects.filter(kind="conflict").count() == seen[422]
    assert record.in_flight_count == seen[409]
    assert send(way, OTHER_ROWS if order.qty == 1 else ROWS, key=key).status_code == 422


@pytest.fixture
def patient_claims() -> Iterator[None]:
    """A claim waits longer for whoever is in its way than a test does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "LOCK_TIMEOUT", f"{PATIENCE}s")
        sql.statements_for.cache_clear()
        yield
    sql.statements_for.cache_clear()  # after the patch: nobody else is to have these


@pytest.mark.postgres  # elsewhere a row that is being changed can be read, or nobody can write
@pytest.mark.usefixtures("patient_claims")
def test_a_twin_does_not_wait_for_a_commit(send: Sender, after: Any) -> None:
    """A key whose new state is not committed yet is refused at once, however long that takes."""
    key, answered = new_key(), threading.Event()

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    def retry() -> int:
        try:
            return Sender()("/plain/", key=key).status_code
        finally:
            answered.set()
            connections.close_all()

    after(fail)
    assert send("/plain/", key=key).status_code == 500
    after(lambda request, order: None)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            IdempotencyKey.objects.update(user_agent="a change that nobody else can see yet")
            twin = pool.submit(retry)
            before_the_commit = answered.wait(PATIENCE / 2)
        assert (before_the_commit, twin.result()) == (True, 409)
    assert send("/plain/", key=key).status_code == 201


def test_a_claim_waits_but_a_moment_for_one_that_is_not_committed(send: Sender) -> None:
    """The same key, inserted and not committed: 409 long before that is decided."""
    key = new_key()
    send("/plain/", key=key)
    record = IdempotencyKey.objects.get()
    IdempotencyKey.objects.all().delete()

    def claim() -> Any:
        try:
            return Sender()("/plain/", key=key)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        record.save(force_insert=True)
        answer = pool.submit(claim).result(PROMPT)

    assert (answer.status_code, answer["Retry-After"]) == (409, "1")
    assert Order.objects.count() == 1
