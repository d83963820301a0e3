"""What clients did and heard, with times, and what may never be in such a history.

Every operation has one of three outcomes: ``ok`` (a final answer), ``fail`` (it certainly had
no effect), ``unknown`` (nobody answered, or the answer says that it does not know).
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

FINAL = {201, 402}
REFUSED = {400, 409, 422, 500, 503}
PATIENCE = 120  # seconds, for machines with much else to do

Ask = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Operation:
    key: str
    qty: int  # what distinguishes the bodies that are sent with one key
    began: float
    ended: float
    status: int | None = None  # None = the connection broke
    body: bytes = b""
    replayed: bool = False
    worker: int = 0

    @property
    def is_answer(self) -> bool:
        """Whether its client need not ask again."""
        return self.status in FINAL or self.status == HTTPStatus.UNPROCESSABLE_ENTITY

    @property
    def outcome(self) -> str:
        if self.status in FINAL:
            return "ok"
        if self.status in REFUSED and b"outcome-unknown" not in self.body:
            return "fail"
        return "unknown"


class History:
    """Sends requests from any thread and remembers all of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.operations: list[Operation] = []
        self._lock = threading.Lock()

    def send(self, path: str, key: str, qty: int = 1, **headers: str) -> Operation:
        began = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = {"Content-Type": "application/json", "Idempotency-Key": key}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        answer: dict[str, Any] = {}
        try:
            client.request("POST", path, json.dumps({"sku": key, "qty": qty}), sent)
            response = client.getresponse()
            answer = {
                "body": response.read(),
                "status": response.status,
                "replayed": response.headers.get("Idempotent-Replayed") == "true",
                "worker": int(response.headers.get("X-Worker", 0)),
            }
        except (OSError, http.client.HTTPException):
            answer = {}  # the answer may have been on its way: unknown
        finally:
            client.close()
        operation = Operation(key, qty, began, time.monotonic(), **answer)
        with self._lock:
            self.operations.append(operation)
        return operation

    def outcomes(self) -> dict[str, int]:
        return dict(Counter(operation.outcome for operation in self.operations))

    def longest_wait(self) -> float:
        """Seconds from the first time that a key was sent to its first final answer, at most.

        Of a key that was never answered, to the last time that somebody asked.
        """
        keys: dict[str, list[Operation]] = defaultdict(list)
        for operation in sorted(self.operations, key=lambda operation: operation.ended):
            asked = keys[operation.key]
            if not asked or not asked[-1].is_answer:
                asked.append(operation)
        return max(
            asked[-1].ended - min(operation.began for operation in asked) for asked in keys.values()
        )

    def violations(self, ask: Ask) -> Iterator[str]:
        """Compare everything that was heard with everything that is committed."""
        keys: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            keys[operation.key].append(operation)
        # Whole tables: neither has an index for it, and there may be tens of thousands of keys.
        orders = _by_first(ask("SELECT sku, id, qty FROM orders_order"))
        stored = _by_first(
            ask(
                "SELECT k.key, k.response_status, k.response_body "  # MySQL: not bare
                "FROM django_idempotency_idempotencykey k"
            )
        )
        for key, operations in keys.items():
            for violation in _violations(operations, dict(orders[key]), stored[key]):
                yield f"{key}: {violation}"


def _by_first(rows: Iterable[tuple[Any, ...]]) -> defaultdict[str, list[tuple[Any, ...]]]:
    """The rest of each row, by its first column."""
    found = defaultdict(list)
    for first, *rest in rows:
        found[first].append(tuple(rest))
    return found


def _violations(
    operations: list[Operation], orders: dict[int, int], stored: list[Any]
) -> Iterator[str]:
    done = [operation for operation in operations if operation.outcome == "ok"]
    uncertain = any(operation.outcome == "unknown" for operation in operations)
    if len(orders) > 1 or (done and not orders) or (orders and not done and not uncertain):
        yield f"{len(orders)} effects, {len(done)} final answers"
    if len({operation.body for operation in done}) > 1:
        yield "different final answers"
    if sum(not operation.replayed for operation in done) > 1:
        yield "two answers that are no replay"
    yield from _unbacked(done, orders, stored)
    for operation in operations:
        if operation.status == 409 and not _overlaps(operation, operations):
            yield "409 though nothing else was under way"
        if operation.status == 422 and not _crossed(operation, operations):
            yield "422 though the key was used for this very body, or for no other"


def _unbacked(done: list[Operation], orders: dict[int, int], stored: list[Any]) -> Iterator[str]:
    kept = [(status, bytes(body)) for status, body in stored if status is not None]
    for operation in done:
        if orders.get(json.loads(operation.body)["id"]) != operation.qty:
            yield "a final answer that no committed order of this body backs"
        if kept != [(operation.status, operation.body)]:
            yield "a final answer that is not the stored one"


def _crossed(one: Operation, operations: list[Operation]) -> bool:
    """Whether the key may have been another body's while this one was asked."""
    others = any(other.qty != one.qty and other.began < one.ended for other in operations)
    return others and not any(
        other.outcome == "ok" and other.qty == one.qty and other.ended < one.began
        for other in operations
    )


def _overlaps(one: Operation, operations: list[Operation]) -> bool:
    """Whether another use of the key was unfinished while this one was asked.

    One whose client heard nothing, or that the database failed, may go on for some time after that.
    """
    return any(
        other is not one
        and other.began < one.ended
        and (other.ended > one.began or other.outcome == "unknown" or other.status == 503)
        for other in operations
    )
