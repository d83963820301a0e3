"""A storm of retried orders, and what it left behind. Effects are counted in the database."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import stamina
from django.db.models import Count, Sum

from django_idempotency.client import OutcomeUnknown, RetryBudget, RetryingClient, RetryPolicy
from django_idempotency.models import IdempotencyKey
from example_project.shop.models import GuestOrder

__all__ = ["Effects", "Outcome", "Storm", "StormError", "percentile"]

PATH = "/orders/guest/"
POLICY = RetryPolicy(attempts=10, base=0.05, cap=1, deadline=60)
_SENT = "http11.send_request_body.complete"  # httpcore's name for it
_QUIET = 2.0  # seconds without a new order: nothing of the storm is still on its way
_PATIENCE = 30.0  # seconds to wait for that


class StormError(Exception):
    """There is nothing to storm; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client reported of one operation."""

    number: int
    report: str  # "done", "unknown" or "answered 400"
    seconds: float


@dataclass(frozen=True, slots=True)
class Effects:
    """What the server's tables hold of a storm."""

    orders: Mapping[int, int]  # number of the operation: how often it took place
    replayed: int
    in_flight: int
    conflicts: int

    @property
    def executed(self) -> int:
        return sum(self.orders.values())


@dataclass(slots=True)
class Storm:
    """Operations that are retried, dropped and doubled, against one server.

    Args:
        url: of the server, without a path.
        operations: how many orders, 1 or more.
        concurrency: how many at once, 1 or more.
        drop: share of the attempts whose connection is closed before the answer, 0 to 1.
        double: share of the attempts that are sent twice at once, 0 to 1.
        seed: chooses which attempts; the same seed chooses the same ones.
        header: what carries the key.
    """

    url: str
    operations: int
    concurrency: int
    drop: float
    double: float
    seed: int
    header: str = "Idempotency-Key"
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    outcomes: list[Outcome] = field(default_factory=list)
    attempts: int = 0

    @property
    def prefix(self) -> str:
        return f"storm-{self.run}-"

    def key(self, number: int) -> str:
        """Of one operation. The order carries it as well, as its item."""
        return f"{self.prefix}{number:06}"

    def probe(self) -> None:
        """Place one order, and find it in the database.

        Raises:
            StormError: no server answers, it is no shop, or it writes to another database.
        """
        item = f"probe-{self.run}-of-a-storm"
        headers = {"Idempotency-Key": item}
        try:
            with httpx.Client(trust_env=False) as http:
                response = http.post(self.url + PATH, json=_order(item), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            msg = (
                f"No server answers at {self.url}: {error}. Start one with `manage.py demo`, "
                "or name its address with --url."
            )
            raise StormError(msg) from error
        if response.status_code != HTTPStatus.CREATED:
            msg = (
                f"{self.url}{PATH} answered {response.status_code} to an order. Is this the "
                "address of the example project?"
            )
            raise StormError(msg)
        if not GuestOrder.objects.filter(item=item).exists():
            msg = (
                f"{self.url} took an order that is not in this database, so its effects cannot "
                "be counted. Set DATABASE_URL as it is set for the server."
            )
            raise StormError(msg)

    def fire(self) -> Iterator[Outcome]:
        """Send everything; each outcome as it becomes known. Stop early by closing it."""
        http = httpx.Client(trust_env=False, transport=_Faults(self))
        # The faults are ours: a usual budget would end the storm, as it is meant to.
        budget = RetryBudget(1, burst=POLICY.attempts * self.operations)
        with (
            _quietly(),
            RetryingClient(http, policy=POLICY, budget=budget, header=self.header) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            waiting = [pool.submit(self._operate, client, n) for n in range(self.operations)]
            try:
                for future in as_completed(waiting):
                    outcome = future.result()
                    self.outcomes.append(outcome)
                    yield outcome
            finally:
                pool.shutdown(cancel_futures=True)

    def effects(self) -> Effects:
        """Count, once nothing of the storm is on its way any more."""
        until = time.monotonic() + _PATIENCE
        last, since = self._count(), time.monotonic()
        while time.monotonic() < min(until, since + _QUIET):
            time.sleep(0.1)
            if (now := self._count()) != last:
                last, since = now, time.monotonic()
        return last

    def _count(self) -> Effects:
        orders = GuestOrder.objects.filter(item__startswith=self.prefix)
        counted = orders.values_list("item").annotate(times=Count("pk")).order_by()
        tallies = IdempotencyKey.objects.filter(key__startswith=self.prefix).aggregate(
            replayed=Sum("tally__replay_count", default=0),
            in_flight=Sum("tally__in_flight_count", default=0),
            conflicts=Sum("tally__conflict_count", default=0),
        )
        times = {int(item.removeprefix(self.prefix)): times for item, times in counted}
        return Effects(times, **tallies)

    def _operate(self, client: RetryingClient[httpx.Response], number: int) -> Outcome:
        key, started = self.key(number), time.perf_counter()
        try:
            response = client.post(self.url + PATH, json=_order(key), idempotency_key=key)
        except OutcomeUnknown:
            report = "unknown"
        else:
            created = response.status_code == HTTPStatus.CREATED
            report = "done" if created else f"answered {response.status_code}"
        return Outcome(number, report, time.perf_counter() - started)


class _Faults(httpx.BaseTransport):
    """Below the client, so that it meets the faults as it would meet the network's."""

    def __init__(self, storm: Storm) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=storm.concurrency)
        self._inner = httpx.HTTPTransport(limits=limits, trust_env=False)
        self._storm = storm
        self._twins = ThreadPoolExecutor(storm.concurrency)
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        storm = self._storm
        operation = request.headers[storm.header].removeprefix(storm.prefix)
        with self._lock:
            self._attempts[operation] += 1
            number = self._attempts[operation]
        chance = random.Random(f"{storm.seed} {operation} {number}").random()  # noqa: S311
        doubled = chance < storm.double
        with self._lock:
            storm.attempts += 1 + doubled
        if doubled:
            self._twins.submit(self._send_twin, request)
        elif chance < storm.double + storm.drop:
            request.extensions = {**request.extensions, "trace": _hang_up(request)}
        return self._inner.handle_request(request)

    def _send_twin(self, request: httpx.Request) -> None:
        twin = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
            extensions={"timeout": {"read": POLICY.timeout, "connect": POLICY.connect_timeout}},
        )
        with suppress(httpx.TransportError):  # what became of it stands in the database
            response = self._inner.handle_request(twin)
            try:
                response.read()
            finally:
                response.close()

    def close(self) -> None:
        self._twins.shutdown()
        self._inner.close()


@contextmanager
def _quietly() -> Iterator[None]:
    """stamina logs each retry; these were ordered."""
    usual = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks(())
    try:
        yield
    finally:
        stamina.instrumentation.set_on_retry_hooks(usual)


def _hang_up(request: httpx.Request) -> Callable[[str, Any], None]:
    """A trace hook that drops the connection when the last byte of the request has left."""
    usual = request.extensions.get("trace")

    def trace(event: str, info: Any) -> None:
        if usual is not None:
            usual(event, info)
        if event == _SENT:
            msg = "The storm dropped the connection."
            raise httpx.ReadError(msg)

    return trace


def _order(item: str) -> dict[str, Any]:
    return {"email": "storm@example.com", "item": item, "quantity": 1}


def percentile(seconds: list[float], share: float) -> float:
    """The time within which ``share`` of the operations ended, in seconds; 0 of none."""
    ordered = sorted(seconds)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
