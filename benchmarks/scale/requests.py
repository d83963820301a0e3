"""The requests of this benchmark: new keys, and any of the keys that were loaded."""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.test import RequestFactory

from benchmarks import views

ACCOUNTS = 1000
KEYS_PER_USER = 10
STEP = 7919  # a prime: keys that follow one another belong to users far apart


def users_of(rows: int) -> int:
    return max(rows // KEYS_PER_USER, 1)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    replayed: bool


class Requests:
    """Calls the protected view for users of a database with ``rows`` keys."""

    def __init__(self, rows: int, *, seed: int = 1) -> None:
        self.rows = rows
        self.users = users_of(rows)
        self.random = random.Random(seed)  # noqa: S311 - a benchmark
        self._factory = RequestFactory()
        self._user = get_user_model()
        self._last: tuple[int, str, int] = (1, "", 1)

    def first(self) -> Any:
        """A request with a new key, of any user."""
        user, key = self.random.randint(1, self.users), str(uuid.uuid4())
        self._last = (user, key, self.random.randint(1, ACCOUNTS))
        return self.made(*self._last)

    def again(self) -> Any:
        """A retry of the latest new request."""
        return self.made(*self._last)

    def loaded(self, *, oldest: float = 0.3) -> Any:
        """A retry of any loaded key that has not expired: the oldest ones have."""
        number = self.random.randint(int(self.rows * oldest) + 1, self.rows)
        return self.made(1 + number * STEP % self.users, key_of(number), 1)

    def made(self, user: int, key: str, account: int) -> Any:
        body = f'{{"account": {account}, "amount": 1250, "currency": "EUR", '
        body += '"reference": "invoice 4711"}'
        headers = {"Idempotency-Key": key, "User-Agent": "shop-app/2.10 (Linux)"}
        request = self._factory.post(
            "/payments/", body, content_type="application/json", headers=headers
        )
        request.user = self._user(pk=user)  # as the authentication leaves it
        return request


def key_of(number: int) -> str:
    """The key of the loaded row with this number."""
    return str(uuid.UUID(hashlib.md5(b"scale-%d" % number, usedforsecurity=False).hexdigest()))


def send(request: Any, *, replayed: bool = False) -> None:
    """Call the view.

    Raises:
        RuntimeError: the answer is not 201, or is a replay and should not be, or vice versa.
    """
    response = views.protected(request)
    if response.status_code != 201 or ("Idempotent-Replayed" in response) is not replayed:
        msg = f"answered {response.status_code}: {response.content!r}"
        raise RuntimeError(msg)
