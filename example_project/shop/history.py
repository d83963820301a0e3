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

from django_idempotency.conf import secrets
from django_idempotency.content import salt_of
from django_idempotency.fingerprint import differences, field_digests, flatten
from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from django_idempotency.protocol import key_id

from .fiction import ENDPOINTS, Client, Document, Endpoint, altered

__all__ = ["seed_history"]

KEYS = 700
DAYS = 14
SLOW_KEYS = 30  # of one bad half hour
MARK = "demo-"  # how the request ids of this history begin

_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 22, 20, 18, 18, 17, 16, 14, 11, 8, 5, 3, 2)
_WEEKEND = 0.45  # of the trade of another day
_RECORDED = 0.6  # share of requests whose body was kept: the site had RECORD_REQUEST="body"

# What becomes of a key, of 1,000. The last client has a bug: it makes a key per session.
_STORIES = {"once": 590, "replayed": 280, "impatient": 55, "failed": 40, "crashed": 8}
_CONFLICTING = {"conflicting": 12}
_CARELESS = {"conflicting": 160}


@dataclass(slots=True)
class History:
    """Rows to be, in an order in which they can be inserted."""

    rng: random.Random
    now: datetime
    clients: list[Client]
    keys: list[IdempotencyKey] = field(default_factory=list)
    tallies: list[KeyTally] = field(default_factory=list)
    events: list[KeyEvent] = field(default_factory=list)
    asked: dict[uuid.UUID, Document] = field(default_factory=dict)
    types: dict[uuid.UUID, str] = field(default_factory=dict)  # media types of requests

    def add(
        self,
        at: datetime,
        story: str = "",
        duration: int | None = None,
        endpoint: Endpoint | None = None,
        client: Client | None = None,
    ) -> None:
        """One key and what became of it; ``story`` names a method below."""
        rng = self.rng
        endpoint = endpoint or rng.choices(ENDPOINTS, [one.weight for one in ENDPOINTS])[0]
        client = client or rng.choice(self.clients)
        if endpoint.anonymous:
            client = Client("anonymous", f"203.0.113.{rng.randint(1, 254)}", "Mozilla/5.0")
        weights = _STORIES | (_CARELESS if client is self.clients[-1] else _CONFLICTING)
        story = story or rng.choices(list(weights), list(weights.values()))[0]
        key = self._key(at, endpoint, client)
        tally = KeyTally(key=key)
        if story not in {"crashed", "running"}:
            self._complete(key, endpoint, duration or int(rng.lognormvariate(3.4, 0.6)) + 4)
        getattr(self, f"_{story}")(key, tally)
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

    def _key(self, at: datetime, endpoint: Endpoint, client: Client) -> IdempotencyKey:
        text = str(self._uuid())
        number = str(self.rng.randint(100, 999))
        key = IdempotencyKey(
            id=key_id(client.scope, text),
            scope=client.scope,
            key=text,
            fingerprint=f"{self.rng.getrandbits(256):064x}",
            method="POST",
            path="/" + endpoint.route.replace("<int:pk>", number),
            route=endpoint.route,
            remote_addr=client.address,
            user_agent=client.agent,
            request_id=self._request_id(),
            seed=self._uuid(),
            created_at=at,
            expires_at=at + timedelta(days=endpoint.days),
        )
        self.asked[key.pk] = endpoint.asked(self.rng)
        self.types[key.pk] = endpoint.media_type
        json_body = endpoint.media_type == "application/json"
        with_body = json_body and self.rng.random() < _RECORDED
        key.request_record = _record(key, self.asked[key.pk], endpoint.media_type, with_body)
        return key

    def _complete(self, key: IdempotencyKey, endpoint: Endpoint, duration: int) -> None:
        answer = endpoint.answered(self.rng, self.asked[key.pk])
        headers = [["Content-Type", answer.media_type]]
        if answer.status == HTTPStatus.FOUND:
            headers.append(["Location", f"/checkout/{self._uuid()}/"])
        key.response_status = answer.status
        key.response_headers = json.dumps(headers)
        key.response_body = answer.body
        key.duration_ms = duration
        key.completed_at = key.created_at + timedelta(milliseconds=duration)

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

    def _once(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """The usual case leaves no more than the key."""

    _running = _once

    def _replayed(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """Tried again with growing pauses; now and then by a queue, much later."""
        at = key.completed_at or key.created_at
        if self.rng.random() < 0.04:
            at = self._later(key, 120, 1800)
        for attempt in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            at += timedelta(seconds=self.rng.uniform(0.8, 2) * 2**attempt)
            event = self._event(key, KeyEvent.Kind.REPLAYED, at, key.response_status)
            tally.replay_count += 1
            tally.last_replayed_at = event.at

    def _impatient(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """Retried while the first request was still running, and again afterwards."""
        tally.in_flight_count = self.rng.randint(1, 3)
        for refusal in range(1, tally.in_flight_count + 1):
            share = (key.duration_ms or 0) * refusal / (tally.in_flight_count + 1)
            at = key.created_at + timedelta(milliseconds=share)
            self._event(key, KeyEvent.Kind.IN_FLIGHT, at, HTTPStatus.CONFLICT)
        self._replayed(key, tally)

    def _conflicting(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """The client has reused its key for different requests."""
        if self.rng.random() < 0.5:
            self._replayed(key, tally)
        tally.conflict_count = self.rng.choice((1, 1, 1, 1, 2, 3))
        record = json.loads(key.request_record)
        for _ in range(tally.conflict_count):
            at = self._later(key, 5, 3600)
            event = self._event(key, KeyEvent.Kind.CONFLICT, at, HTTPStatus.UNPROCESSABLE_ENTITY)
            asked = altered(self.asked[key.pk], self.rng)
            event.request_record = _record(key, asked, self.types[key.pk], "body" in record)
            theirs = json.loads(event.request_record)["fields"]
            event.differences = json.dumps(differences(record["fields"], theirs))

    def _everything(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """Refused in flight, replayed, then reused; both requests were kept."""
        key.request_record = _record(key, self.asked[key.pk], "application/json", with_body=True)
        self._impatient(key, tally)
        self._conflicting(key, tally)

    def _failed(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """Rolled back at first, done by the retry."""
        status = self.rng.choice((None, None, HTTPStatus.BAD_REQUEST))
        event = self._event(key, KeyEvent.Kind.FAILED, key.created_at, status)
        event.duration_ms = self.rng.randint(20, 900)
        event.at = key.created_at + timedelta(milliseconds=event.duration_ms)
        tally.failure_count, key.attempts = 1, 2
        pause = timedelta(seconds=self.rng.uniform(1, 40))
        key.completed_at = event.at + pause + timedelta(milliseconds=key.duration_ms or 0)

    def _crashed(self, key: IdempotencyKey, tally: KeyTally) -> None:
        """Begun and never finished, and never tried again."""
        if self.rng.random() < 0.6:
            event = self._event(key, KeyEvent.Kind.FAILED, self._later(key, 0.02, 4), None)
            event.duration_ms = round((event.at - key.created_at).total_seconds() * 1000)
            tally.failure_count = 1


def _record(key: IdempotencyKey, asked: Document, media_type: str, with_body: bool) -> str:
    """As the library keeps it."""
    about = {"@method": key.method, "@path": key.path, "@query": "", "@content-type": media_type}
    described = (*about.items(), *flatten(asked))
    fields = field_digests(described, secret=secrets()[0], salt=salt_of(key.scope, key.key))
    record: Document = {"fields": fields} | ({"body": asked} if with_body else {})
    return json.dumps(record, separators=(",", ":"))


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
    for _ in range(KEYS - SLOW_KEYS - 6):
        history.add(_moment(history))
    for _ in range(SLOW_KEYS):  # a database that was slow for half an hour, five days ago
        at = history.now - timedelta(days=5, minutes=rng.uniform(0, 30))
        history.add(
            at, rng.choice(("impatient", "impatient", "replayed")), rng.randint(4000, 15000)
        )
    for hours in (2, 5, 9):
        history.add(history.now - timedelta(hours=hours), "conflicting", client=clients[-1])
    # What the customer on the phone is worried about.
    at = history.now - timedelta(hours=3, minutes=11)
    history.add(at, "everything", 1840, endpoint=ENDPOINTS[0], client=clients[-1])
    history.add(history.now - timedelta(minutes=41), "crashed")  # stuck: free for a retry
    history.add(history.now - timedelta(seconds=20), "running")
    with transaction.atomic():
        IdempotencyKey.objects.bulk_create(history.keys, batch_size=200)
        KeyTally.objects.bulk_create(history.tallies, batch_size=200)
        KeyEvent.objects.bulk_create(history.events, batch_size=200)
    return len(history.keys)


def _moment(history: History) -> datetime:
    """Some time in the last two weeks: more often by day than by night, less at weekends."""
    rng, midnight = history.rng, history.now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight - timedelta(days=ago) for ago in range(DAYS)]
    trade = [_WEEKEND if day.weekday() >= 5 else 1 for day in days]
    # Today has had a part of its trade only.
    trade[0] *= sum(_BY_HOUR[: history.now.hour]) / sum(_BY_HOUR)
    day = rng.choices(days, trade)[0]
    hours = history.now.hour if day == midnight else 24
    hour = rng.choices(range(hours), _BY_HOUR[:hours])[0]
    return day + timedelta(hours=hour, minutes=rng.randrange(60), seconds=rng.uniform(0, 60))
