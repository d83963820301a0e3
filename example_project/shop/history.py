"""Two weeks of plausible history, so that the admin has something to show on the first run."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.utils import timezone

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from django_idempotency.protocol import key_id

__all__ = ["seed_history"]

KEYS = 700
DAYS = 14
SLOW_KEYS = 30  # of one bad half hour
MARK = "demo-"  # how the request ids of this history begin

_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 22, 20, 18, 18, 17, 16, 14, 11, 8, 5, 3, 2)
_ITEMS = ("Assam tea", "Green tea", "Teapot", "Atlas", "Sunflowers", "Rye bread")


@dataclass(frozen=True, slots=True)
class Client:
    """One fictional client: whose keys, from where, with what."""

    scope: str
    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    route: str
    weight: int
    fields: tuple[str, ...]
    anonymous: bool = False
    days: int = 1  # of retention


_ENDPOINTS = (
    Endpoint("payments/", 60, ("account", "amount", "reference")),
    Endpoint("payments/<int:pk>/refunds/", 9, ("amount",), days=7),
    Endpoint("orders/guest/", 13, ("email", "item", "quantity"), anonymous=True),
    Endpoint("checkout/", 9, ("email", "item", "quantity"), anonymous=True),
    Endpoint("orders/async/", 5, ("email", "item"), anonymous=True),
    Endpoint("orders/import/", 4, ("file",)),
)


@dataclass(slots=True)
class History:
    """Rows to be, in an order in which they can be inserted."""

    rng: random.Random
    now: datetime
    clients: list[Client]
    keys: list[IdempotencyKey] = field(default_factory=list)
    tallies: list[KeyTally] = field(default_factory=list)
    events: list[KeyEvent] = field(default_factory=list)

    def add(self, at: datetime, story: str, duration: int | None = None) -> None:
        """One key and what became of it; ``story`` names a method below."""
        endpoint = self.rng.choices(_ENDPOINTS, [e.weight for e in _ENDPOINTS])[0]
        client = self.rng.choice(self.clients)
        if endpoint.anonymous:
            client = Client("anonymous", f"203.0.113.{self.rng.randint(1, 254)}", "Mozilla/5.0")
        key = self._key(at, endpoint, client)
        tally = KeyTally(key=key)
        if story != "crashed":
            self._complete(key, endpoint, duration or int(self.rng.lognormvariate(3.4, 0.6)) + 4)
        getattr(self, f"_{story}")(key, tally, endpoint)
        self.keys.append(key)
        if self._is_counted(tally):
            self.tallies.append(tally)

    @staticmethod
    def _is_counted(tally: KeyTally) -> bool:
        counts = (tally.replay_count, tally.conflict_count, tally.in_flight_count)
        return any((*counts, tally.failure_count))

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)

    def _request_id(self) -> str:
        return f"{MARK}{self.rng.getrandbits(48):012x}"

    def _record(self, endpoint: Endpoint) -> str:
        names = ("@method", "@path", "@query", "@content-type", *endpoint.fields)
        digests = {name: f"{self.rng.getrandbits(48):012x}" for name in names}
        return json.dumps({"fields": digests}, separators=(",", ":"))

    def _key(self, at: datetime, endpoint: Endpoint, client: Client) -> IdempotencyKey:
        key = str(self._uuid())
        number = str(self.rng.randint(100, 999))
        return IdempotencyKey(
            id=key_id(client.scope, key),
            scope=client.scope,
            key=key,
            fingerprint=f"{self.rng.getrandbits(256):064x}",
            method="POST",
            path="/" + endpoint.route.replace("<int:pk>", number),
            route=endpoint.route,
            request_record=self._record(endpoint),
            remote_addr=client.address,
            user_agent=client.agent,
            request_id=self._request_id(),
            seed=self._uuid(),
            created_at=at,
            expires_at=at + timedelta(days=endpoint.days),
        )

    def _complete(self, key: IdempotencyKey, endpoint: Endpoint, duration: int) -> None:
        status, body = self._answer(endpoint)
        kind = "text/html; charset=utf-8" if status == HTTPStatus.FOUND else "application/json"
        headers = [["Content-Type", kind]]
        if status == HTTPStatus.FOUND:
            headers.append(["Location", f"/checkout/{self._uuid()}/"])
        key.response_status = status
        key.response_headers = json.dumps(headers)
        key.response_body = body
        key.duration_ms = duration
        key.completed_at = key.created_at + timedelta(milliseconds=duration)

    def _answer(self, endpoint: Endpoint) -> tuple[int, bytes]:
        rng = self.rng
        amount = rng.choice((450, 780, 1250, 1990, 2400, 3500, 8900))
        if endpoint.route == "checkout/":
            return HTTPStatus.FOUND, b""
        if endpoint.route == "payments/" and rng.random() < 0.05:
            answer = {"detail": "The balance is too low.", "balance": rng.randint(0, 400)}
            return HTTPStatus.PAYMENT_REQUIRED, json.dumps(answer).encode()
        answers: dict[str, dict[str, object]] = {
            "amount": {"id": rng.randint(100, 999), "amount": amount},
            "item": {"number": str(self._uuid()), "item": rng.choice(_ITEMS)},
            "file": {"imported": rng.randint(3, 60)},
        }
        named = next(name for name in answers if name in endpoint.fields)
        return HTTPStatus.CREATED, json.dumps(answers[named]).encode()

    def _event(
        self, key: IdempotencyKey, kind: KeyEvent.Kind, at: datetime, status: int | None
    ) -> KeyEvent:
        event = KeyEvent(
            key=key,
            kind=kind,
            at=min(at, self.now),
            status=status,
            duration_ms=self.rng.randint(2, 9),
            method=key.method,
            path=key.path,
            remote_addr=key.remote_addr,
            user_agent=key.user_agent,
            request_id=self._request_id(),
        )
        self.events.append(event)
        return event

    def _later(self, key: IdempotencyKey, least: float, most: float) -> datetime:
        """A moment after the key's answer, in seconds."""
        return (key.completed_at or key.created_at) + timedelta(
            seconds=self.rng.uniform(least, most)
        )

    # -- what becomes of a key

    def _once(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        """The usual case leaves no more than the key."""

    def _replayed(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        at = key.completed_at or key.created_at
        for attempt in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            at += timedelta(seconds=self.rng.uniform(0.8, 2) * 2**attempt)
            event = self._event(key, KeyEvent.Kind.REPLAYED, at, key.response_status)
            tally.replay_count += 1
            tally.last_replayed_at = event.at

    def _impatient(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        """Retried while the first request was still running, and again afterwards."""
        tally.in_flight_count = self.rng.randint(1, 3)
        for refusal in range(1, tally.in_flight_count + 1):
            share = (key.duration_ms or 0) * refusal / (tally.in_flight_count + 1)
            at = key.created_at + timedelta(milliseconds=share)
            self._event(key, KeyEvent.Kind.IN_FLIGHT, at, HTTPStatus.CONFLICT)
        self._replayed(key, tally, endpoint)

    def _conflicting(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        """The client has reused its key for a different request."""
        at = self._later(key, 5, 3600)
        event = self._event(key, KeyEvent.Kind.CONFLICT, at, HTTPStatus.UNPROCESSABLE_ENTITY)
        changed = self.rng.sample(endpoint.fields, self.rng.randint(1, len(endpoint.fields)))
        event.differences = json.dumps(dict.fromkeys(changed, "changed"))
        event.request_record = self._record(endpoint)
        tally.conflict_count = 1

    def _failed(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        """Rolled back at first, done by the retry."""
        status = self.rng.choice((None, None, HTTPStatus.BAD_REQUEST))
        event = self._event(key, KeyEvent.Kind.FAILED, key.created_at, status)
        event.duration_ms = self.rng.randint(20, 900)
        event.at = key.created_at + timedelta(milliseconds=event.duration_ms)
        tally.failure_count, key.attempts = 1, 2
        pause = timedelta(seconds=self.rng.uniform(1, 40))
        key.completed_at = event.at + pause + timedelta(milliseconds=key.duration_ms or 0)

    def _crashed(self, key: IdempotencyKey, tally: KeyTally, endpoint: Endpoint) -> None:
        """Begun and never finished, and never tried again."""
        if self.rng.random() < 0.6:
            event = self._event(key, KeyEvent.Kind.FAILED, self._later(key, 0.02, 4), None)
            event.duration_ms = round((event.at - key.created_at).total_seconds() * 1000)
            tally.failure_count = 1


_STORIES = {
    "once": 77,
    "replayed": 14,
    "impatient": 3,
    "conflicting": 2,
    "failed": 2,
    "crashed": 2,
}


def seed_history(users: Sequence[tuple[str, int]]) -> int:
    """Insert the history of ``users``, (name, primary key); return the keys added: 0 = had one."""
    if IdempotencyKey.objects.filter(request_id__startswith=MARK).exists():
        return 0
    clients = [
        Client(f"user:{pk}", f"192.0.2.{number}", f"{name}/2.{number}")
        for number, (name, pk) in enumerate(users, start=10)
    ]
    rng = random.Random(20)  # noqa: S311 -- the same history on every machine, not a secret
    history = History(rng, timezone.now(), clients)
    for _ in range(KEYS - SLOW_KEYS):
        history.add(_moment(history), rng.choices(list(_STORIES), list(_STORIES.values()))[0])
    for _ in range(SLOW_KEYS):  # a database that was slow for half an hour, five days ago
        at = history.now - timedelta(days=5, minutes=rng.uniform(0, 30))
        history.add(
            at, rng.choice(("impatient", "impatient", "replayed")), rng.randint(4000, 15000)
        )
    with transaction.atomic():
        IdempotencyKey.objects.bulk_create(history.keys, batch_size=200)
        KeyTally.objects.bulk_create(history.tallies, batch_size=200)
        KeyEvent.objects.bulk_create(history.events, batch_size=200)
    return len(history.keys)


def _moment(history: History) -> datetime:
    """Some time in the last two weeks, more often by day than by night."""
    rng = history.rng
    midnight = history.now.replace(hour=0, minute=0, second=0, microsecond=0)
    hour = rng.choices(range(24), _BY_HOUR)[0]
    at = midnight + timedelta(
        days=-rng.randrange(DAYS), hours=hour, minutes=rng.randrange(60), seconds=rng.uniform(0, 60)
    )
    return at if at < history.now - timedelta(hours=1) else at - timedelta(days=1)
