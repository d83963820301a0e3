"""The flows of a keyed request: what was before, what the struck attempt does, what must follow.

==========  =============================================  ====================================
flow        before                                         the struck attempt
==========  =============================================  ====================================
first       nothing                                        executes
again       an attempt that failed                         executes the same request again
takeover    an attempt with another body that failed       takes the free key over
replay      a finished execution                           replays it
conflict    a finished execution                           sends another body: 422
busy        a failed attempt, its row locked by a session  is refused: 409; then executes
expired     a finished execution past its retention        executes anew, in place
purge       the same, with a trail                         is ``purge()``, not a request
==========  =============================================  ====================================
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django_idempotency.protocol import key_id
from django_idempotency.upkeep import purge
from tests.proof.bench import EVENTS, KEYS, ORDERS, TALLIES, Bench
from tests.proof.views import IN_STOCK, STOCK
from tests.proof.worker import Tell, Worker, post

FLOWS = ("first", "again", "takeover", "replay", "conflict", "busy", "expired", "purge")
PROVOKING = {"raised", "swallow_orm", "swallow_sql", "unrenderable"}

Plant = Callable[[], Any]


def swept() -> int:
    return purge(limit=100, keep=timedelta(0))


@dataclass
class Scenario:
    """One key, everything that was sent with it and everything that came back."""

    stand: Bench
    flow: str
    shape: str
    kept: bool = False  # see Site
    plant: Plant | None = None  # a fault in the library, planted in every worker
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    answers: list[dict[str, Any]] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)  # what on_commit() callbacks said
    violations: list[str] = field(default_factory=list)
    seconds: float = -1.0  # from the first retry to the final answer; negative = there was none
    replays = True  # whether the first request is replayed in the end
    _holder: Any = None

    @property
    def path(self) -> str:
        return f"/proof/{self.shape}/"

    @property
    def final(self) -> int:
        """The status that an undisturbed client gets in the end."""
        return 422 if self.flow == "conflict" else 402 if self.shape == "returned" else 201

    def is_final(self, answer: dict[str, Any]) -> bool:
        return bool(answer["status"] == self.final)

    @property
    def base(self) -> int:
        """How many effects there were before the struck attempt."""
        return int(self.flow in {"replay", "conflict", "expired", "purge"})

    @property
    def expected(self) -> int:
        """How many there must be in the end."""
        return 2 if self.flow in {"expired", "purge"} else 1

    # -- before

    def prepare(self) -> None:
        self.stand.proxy.arm(None)
        if self.shape == "update":
            values = (STOCK + self.key, IN_STOCK)
            self.stand.ask(f"INSERT INTO {ORDERS} (sku, qty) VALUES (%s, %s)", *values)
        if self.base:
            self._finish_one()
        elif self.flow in {"again", "takeover", "busy"}:
            failed = self.attempt(qty=2 if self.flow == "takeover" else 1, provoke="fail")
            assert failed is not None, "the preparation was killed"
            assert failed["status"] == 500, failed
        if self.flow == "busy":
            self._holder = self.stand.another()
            self._holder.autocommit = False
            self._holder.execute(f"SELECT 1 FROM {KEYS} WHERE key = %s FOR UPDATE", (self.key,))
        self.before = len(self.answers)

    def _finish_one(self) -> None:
        answer = self.attempt()
        assert answer is not None, "the preparation was killed"
        assert answer["status"] == (402 if self.shape == "returned" else 201), answer
        if self.flow == "purge":
            self.attempt()  # leaves a tally and an event
        if self.flow in {"expired", "purge"}:
            self.stand.ask(
                f"UPDATE {KEYS} SET created_at = created_at - interval '3 days', "
                "expires_at = now() - interval '1 day' WHERE key = %s",
                self.key,
            )

    # -- the struck attempt, retries

    def strike(self) -> Worker:
        """Begin the attempt that the proxy strikes."""
        if self.flow == "purge":
            return self.worker(lambda tell: tell(purged=swept()))
        if self.kept:
            return self.worker(partial(self._persist, replay=False))
        return self.sender(self.provocation)

    def _persist(self, tell: Tell, *, started: float = 0.0, replay: bool = True) -> None:
        provoke, pause = self.provocation, 0.01
        for _ in range(8):
            answer = post(self.path, self.body(), self.key, provoke)
            tell(answer=answer)
            if self.is_final(answer):
                tell(seconds=time.monotonic() - started)
                if replay:
                    tell(answer=post(self.path, self.body(qty=1), self.key))
                break
            if not provoke:
                time.sleep(pause)  # the client's back-off
                pause *= 2
            provoke = ""

    @property
    def provocation(self) -> str:
        return "1" if self.shape in PROVOKING else ""

    def sender(self, provoke: str = "", qty: int | None = None) -> Worker:
        body = self.body(qty)
        return self.worker(lambda tell: tell(answer=post(self.path, body, self.key, provoke)))

    def body(self, qty: int | None = None) -> dict[str, Any]:
        return {"sku": self.key, "qty": qty or (2 if self.flow == "conflict" else 1)}

    def worker(self, act: Callable[[Tell], Any]) -> Worker:
        def planted(tell: Tell) -> None:
            if self.plant is not None:
                self.plant()
            act(tell)

        return Worker(planted)

    def hear(self, worker: Worker) -> dict[str, Any] | None:
        """What a worker answered; None = it was killed, or purged."""
        last = None
        for news in worker.result():
            if "answer" in news:
                last = news["answer"]
                self.answers.append(last)
            elif "committed" in news:
                self.committed.append(news["committed"])
            elif "seconds" in news:
                self.seconds = news["seconds"]
            elif "error" in news and self.flow != "purge":
                self.violations.append(f"a worker broke: {news['error']}")
        return last

    def attempt(self, provoke: str = "", qty: int = 1) -> dict[str, Any] | None:
        return self.hear(self.sender(provoke, qty))

    def let_go(self) -> None:
        """End what ``prepare()`` has left open."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def settle(self) -> float:
        """Retry as a client does until the answer is final, then replay; seconds until final.

        Another worker makes all retries; a connection lives for one of them, unless kept.
        """
        started = time.monotonic()
        if self.flow == "purge":
            self._purge_again()
        self.seconds = -1.0
        last = self.hear(self.worker(partial(self._persist, started=started)))
        if self.seconds < 0:
            self.violations.append("no final answer in 8 retries")
        elif last is None or (self.replays and not last["replayed"]):
            self.violations.append(f"no replay in the end: {last}")
        return self.seconds

    def _purge_again(self) -> None:
        trail = [
            self.stand.ask(f"SELECT count(*) FROM {table} WHERE {column} IN (%s)", self.pk)[0][0]
            for table, column in ((KEYS, "id"), (TALLIES, "key_id"), (EVENTS, "key_id"))
        ]
        if trail not in ([1, 1, 1], [0, 0, 0]):
            self.violations.append(f"half a purge: {trail}")
        # A killed worker's session may hold the key for some milliseconds, so it is passed over.
        for _ in range(100):
            self.hear(self.strike())
            if not self.stand.ask(f"SELECT 1 FROM {KEYS} WHERE id = %s", self.pk):
                return
        self.violations.append("the key was never purged")

    @property
    def pk(self) -> str:
        return str(key_id("anonymous", self.key))
