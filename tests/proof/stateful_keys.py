"""A model of what clients, crashes, time and operators do to keys, beside the real application.

The model is a dictionary. It says of each request, before it is sent, what will be answered, and
of each table what must be in it afterwards.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from django_idempotency import upkeep
from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.admin.people import LIST, signed_in
from tests.conformance.test_crashes import die, in_child
from tests.conformance.views_more import SWITCH
from tests.orders import views
from tests.orders.models import Order
from tests.sender import Sender

__all__ = ["MAX_CRASHES", "OUTCOMES", "Keys"]

MAX_CRASHES = 2
WAY = "/guarded/"
USERS = {"alice": 4711, "bob": 4712}
KEYS = ["first-of-two-keys", "second-of-two-keys"]
BODIES = [{"sku": "tea", "qty": qty} for qty in (1, 2)]
LATE = timedelta(hours=25)


def _fail(request: Any, order: Order) -> None:
    raise RuntimeError


def _reject(request: Any, order: Order) -> None:
    raise ValidationError({"qty": "too many"})


OUTCOMES: dict[str, tuple[int, bool, Any]] = {  # status, whether it is final, what the view does
    "done": (201, True, lambda request, order: None),
    "declined": (402, True, lambda request, order: Response({"order": order.pk}, status=402)),
    "rejected": (400, False, _reject),
    "too busy": (429, False, lambda request, order: Response({}, status=429)),
    "failed": (500, False, _fail),
}
whose = st.sampled_from(list(USERS))
which = st.sampled_from(KEYS)
bodies = st.sampled_from([0, 1])
outcomes = st.sampled_from(list(OUTCOMES))


@dataclass
class Kept:
    """What the model holds of one key."""

    body: int
    attempts: int = 1
    failures: int = 0
    replays: int = 0
    conflicts: int = 0
    answer: tuple[int, bytes] | None = None
    expired: bool = False

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.replays, self.conflicts, self.failures, 0


class Keys(RuleBasedStateMachine):
    """Two users, two keys, two bodies, so that they meet all the time."""

    seen: Counter[str] = Counter()  # what came about in all runs: what never does shows nothing

    @initialize()
    def _nothing_is_there(self) -> None:
        for model in (KeyEvent, KeyTally, IdempotencyKey, Order, LogEntry, Token, User):
            model._default_manager.all()._raw_delete("default")
        SWITCH.clear()
        self.client = Sender()
        self.last = ("alice", KEYS[0], 0)
        self.keys: dict[tuple[str, str], Kept] = {}
        self.orders, self.crashes, self.logged, self.allowed = 0, 0, 0, True
        self.operator = signed_in(superuser=True)
        self.tokens: dict[str, str] = {}
        for name in USERS:
            self._welcome(name)

    def teardown(self) -> None:
        SWITCH.clear()
        views.BEHAVIOUR.clear()

    def _welcome(self, name: str) -> None:
        user = User.objects.create(pk=USERS[name], username=name)
        self.tokens[name] = f"Token {Token.objects.create(user=user).key}"

    # -- what the model says

    def _refused(self, user: str, key: str, body: int) -> tuple[int, str] | None:
        """(status, code) of a request that does not execute; None = it does."""
        kept = self.keys.get((user, key))
        if user not in self.tokens:
            return 401, ""
        if not self.allowed:
            return 403, ""
        if kept is None or (kept.answer is not None and kept.expired):
            return None
        if kept.body != body:
            return (422, "idempotency_key_reused") if kept.answer is not None else None
        if kept.answer is not None:
            return kept.answer[0], "replay"
        if kept.attempts - kept.failures >= MAX_CRASHES:
            return 409, "idempotency_attempts_exhausted"
        return None

    def _begin(self, user: str, key: str, body: int) -> Kept:
        """Another execution begins."""
        kept = self.keys.get((user, key))
        if kept is None or kept.answer is not None:  # expired: as new
            kept = self.keys[user, key] = Kept(body)
        else:
            if kept.body != body:  # workers that died did so for the other request
                kept.body, kept.attempts = body, kept.failures
            kept.attempts += 1
            kept.expired = False
        return kept

    # -- what happens

    @rule(user=whose, key=which, body=bodies, outcome=outcomes)
    def send(self, user: str, key: str, body: int, outcome: str) -> None:
        self._request((user, key, body), outcome)

    @rule(outcome=outcomes)
    def send_again(self, outcome: str) -> None:
        self._request(self.last, outcome)

    @rule(outcome=outcomes)
    def send_another_body(self, outcome: str) -> None:
        user, key, body = self.last
        self._request((user, key, 1 - body), outcome)

    @rule(outcome=outcomes)
    def send_as_another_user(self, outcome: str) -> None:
        (other,) = USERS.keys() - {self.last[0]}
        self._request((other, *self.last[1:]), outcome)

    def _request(self, sent: tuple[str, str, int], outcome: str) -> None:
        user, key, body = self.last = sent
        refused = self._refused(user, key, body)
        status, final, views.BEHAVIOUR["after"] = OUTCOMES[outcome]
        answer = self._send(user, key, body)
        self.seen[outcome if refused is None else refused[1] or str(refused[0])] += 1
        if refused is not None:
            self._expect_refusal(answer, *refused, kept=self.keys.get((user, key)))
            return
        kept = self._begin(user, key, body)
        assert answer.status_code == status, answer.content
        assert "Idempotent-Replayed" not in answer
        if final:
            kept.answer, kept.expired = (status, answer.content), False
            self.orders += 1
        else:
            kept.failures += 1

    def _send(self, user: str, key: str, body: int) -> Any:
        token = self.tokens.get(user, "Token of-somebody-who-is-gone")
        return self.client(WAY, BODIES[body], key=key, Authorization=token)

    def _expect_refusal(self, answer: Any, status: int, code: str, *, kept: Kept | None) -> None:
        assert answer.status_code == status, answer.content
        assert ("Idempotent-Replayed" in answer) == (code == "replay")
        if code == "replay":
            assert kept is not None
            assert kept.answer == (status, answer.content)
            kept.replays += 1
        elif code:
            assert answer.json()["code"] == code
            if status == 422 and kept is not None:
                kept.conflicts += 1

    @precondition(lambda self: self.crashes < 2)  # a process of its own for each
    @rule(user=whose, key=which, body=bodies, times=st.integers(1, MAX_CRASHES))
    def crash(self, user: str, key: str, body: int, times: int) -> None:
        """The worker is killed in the view, perhaps again in the next attempt."""
        for _ in range(times):
            if self._refused(user, key, body) is None:
                self._kill(user, key, body)

    def _kill(self, user: str, key: str, body: int) -> None:
        views.BEHAVIOUR["after"] = die
        assert in_child(lambda: self._send(user, key, body)) == signal.SIGKILL
        self._begin(user, key, body)
        self.crashes += 1
        self.seen["crash"] += 1
        self._wait_until_free()

    def _wait_until_free(self) -> None:
        """The server notices within milliseconds that its client is gone."""
        skip = connection.features.has_select_for_update_skip_locked
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with transaction.atomic():
                if len(IdempotencyKey.objects.select_for_update(skip_locked=skip)) == len(
                    self.keys
                ):
                    return
        raise AssertionError("a key stays locked though its worker is dead")  # noqa: EM101

    @rule()
    def time_passes(self) -> None:
        IdempotencyKey.objects.update(
            created_at=F("created_at") - LATE, expires_at=F("expires_at") - LATE
        )
        for kept in self.keys.values():
            kept.expired = True

    @rule()
    def purge(self) -> None:
        old = [name for name, kept in self.keys.items() if kept.expired]
        assert upkeep.purge(limit=100) == len(old)
        for name in old:
            self.seen["purged"] += 1
            del self.keys[name]

    @rule(user=whose, key=which)
    def forget(self, user: str, key: str) -> None:
        self.logged += self._operate("forget_keys", user, key)
        self.keys.pop((user, key), None)

    @rule(user=whose, key=which)
    def expire(self, user: str, key: str) -> None:
        kept = self.keys.get((user, key))
        self._operate("expire_keys", user, key)
        if kept is not None and kept.answer is not None and not kept.expired:
            kept.expired = True
            self.logged += 1

    def _operate(self, action: str, user: str, key: str) -> int:
        """In the admin, as a person does; returns how many keys were chosen."""
        ids = [row.pk for row in self._rows(user, key)]
        chosen = ids or [uuid.UUID(int=0)]  # gone since the list was shown
        answer = {"action": action, "_selected_action": chosen, "confirmed": "yes"}
        assert self.operator.post(LIST, answer).status_code == 302
        self.seen[action] += len(ids)
        return len(ids)

    def _rows(self, user: str, key: str) -> Any:
        return IdempotencyKey.objects.in_scope(f"user:{USERS[user]}", key)

    @rule()
    def permission_changes(self) -> None:
        self.allowed = SWITCH["permission"] = not self.allowed

    @rule(user=whose)
    def user_goes_or_comes_back(self, user: str) -> None:
        """Deleted, or created anew with the primary key of the one who is gone."""
        if user not in self.tokens:
            self._welcome(user)
            return
        del self.tokens[user]
        User.objects.get(pk=USERS[user]).delete()
        for name, kept in list(self.keys.items()):
            if name[0] == user and kept.answer is not None:
                del self.keys[name]

    # -- what must be so after each step

    @invariant()
    def tables_agree(self) -> None:
        if not hasattr(self, "keys"):
            return
        names = {f"user:{pk}": name for name, pk in USERS.items()}
        rows = IdempotencyKey.objects.with_counts()
        found = {(names[row.scope], row.key): row for row in rows}
        assert found.keys() == self.keys.keys()
        for name, row in found.items():
            kept = self.keys[name]
            counts = row.replays, row.conflicts, row.failures, row.in_flight
            assert (row.attempts, counts) == (kept.attempts, kept.counts), name
            body = bytes(row.response_body or b"")
            assert (row.response_status, body) == (kept.answer or (None, b""))
        assert Order.objects.count() == self.orders
        assert LogEntry.objects.count() == self.logged
