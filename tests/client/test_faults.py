"""Both halves together: real operations through a proxy that breaks what it can.

Every operation has exactly one effect, none is called failed that happened, and unknown are
those that the proxy stayed dead for, and no others. Effects are counted in the database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import requests
import stamina

from django_idempotency.client import (
    AsyncRetryingClient,
    OutcomeUnknown,
    RetryBudget,
    RetryingClient,
    RetryPolicy,
)
from example_project.shop.models import GuestOrder
from tests.client.conftest import TRUST
from tests.client.fault_proxy import CALM, Fault, FaultProxy, fault_proxy
from tests.shop_server import running_shop

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

WORKERS = 16
POLICY = RetryPolicy(
    attempts=CALM + 6, base=0.02, cap=0.2, deadline=30, connect_timeout=1, timeout=1
)
Outcome = tuple[str, str]  # key, what was reported
Post = Callable[[str, dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """stamina logs each retry; here there are hundreds."""
    stamina.instrumentation.set_on_retry_hooks(())
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def generous() -> RetryBudget:
    """Faults in half of all attempts are no storm that a budget should stop."""
    return RetryBudget(1, burst=10_000)


def key_of(number: int) -> str:
    return f"operation-{number:06}-of-the-test"


def body_of(number: int) -> dict[str, Any]:
    """Each tenth is refused by the shop: a definite failure."""
    quantity = 0 if number % 10 == 9 else 1
    return {"email": "a@example.com", "item": key_of(number), "quantity": quantity}


def reported(response: Any) -> str:
    return {201: "done", 400: "failed"}.get(response.status_code, f"status {response.status_code}")


def in_threads(http: Any, url: str, numbers: range) -> list[str]:
    with RetryingClient(http, policy=POLICY, budget=generous()) as client:

        def send(number: int) -> str:
            try:
                return reported(
                    client.post(url, json=body_of(number), idempotency_key=key_of(number))
                )
            except OutcomeUnknown as unknown:
                return "unknown" if unknown.key == key_of(number) else "another key"

        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(send, numbers))


def by_requests(url: str, numbers: range) -> list[str]:
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=WORKERS))
    return in_threads(session, url, numbers)


def by_httpx(url: str, numbers: range) -> list[str]:
    return in_threads(httpx.Client(verify=TRUST), url, numbers)


def by_async_httpx(url: str, numbers: range) -> list[str]:
    async def run() -> list[str]:
        turn = asyncio.Semaphore(WORKERS)
        async with AsyncRetryingClient(
            httpx.AsyncClient(verify=TRUST), policy=POLICY, budget=generous()
        ) as client:

            async def send(number: int) -> str:
                async with turn:
                    try:
                        answer = await client.post(
                            url, json=body_of(number), idempotency_key=key_of(number)
                        )
                    except OutcomeUnknown:
                        return "unknown"
                    return reported(answer)

            return await asyncio.gather(*(send(number) for number in numbers))

    return asyncio.run(run())


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with running_shop() as shop, fault_proxy(shop, seed=20261124) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("send", "count"), [(by_httpx, 500), (by_requests, 150), (by_async_httpx, 150)]
)
def test_every_operation_has_exactly_one_effect(
    proxy: FaultProxy, send: Callable[[str, range], list[str]], count: int
) -> None:
    """Under drops, delays, late and double deliveries and 503; 1 in 25 meets a dead proxy."""
    numbers = range(count)
    deaths: list[Fault] = ["dead", "dead after"]
    proxy.dead = {key_of(number): deaths[number % 2] for number in numbers if number % 25 < 2}

    outcomes = dict(
        zip(map(key_of, numbers), send(f"{proxy.url}/orders/guest/", numbers), strict=True)
    )

    effects = Counter(GuestOrder.objects.values_list("item", flat=True))
    expected = {}
    for number in numbers:
        key = key_of(number)
        refused = body_of(number)["quantity"] == 0
        fault = proxy.dead.get(key)
        if fault is None:
            expected[key] = ("failed", 0) if refused else ("done", 1)
        else:
            expected[key] = ("unknown", int(fault == "dead after" and not refused))
    assert {key: (outcomes[key], effects[key]) for key in outcomes} == expected
    assert set(proxy.done) >= {"drop before", "drop after", "refuse", "double", "delay", "late"}
    assert sum(proxy.attempts.values()) > 1.5 * count
