"""The judge and its vocabulary: values in, a value out. No database, no HTTP, no clock."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus

__all__ = [
    "Attempt",
    "Caller",
    "Conflict",
    "Decision",
    "Execute",
    "Exhausted",
    "Expired",
    "InFlight",
    "KeyRecord",
    "KeyedRequest",
    "Outcome",
    "Replay",
    "StoredResponse",
    "decide",
    "ids_of",
    "key_digest",
    "key_id",
]


class Outcome(StrEnum):
    """What became of one keyed request: the word in code, admin, log and metrics."""

    EXECUTED = "executed"  # ran, committed, response stored
    REPLAYED = "replayed"  # answered with the stored response
    IN_FLIGHT = "in_flight"  # refused: the first request has not finished
    CONFLICT = "conflict"  # refused: the key belongs to a different request
    FAILED = "failed"  # ran, rolled back; the key is free
    REFUSED = "refused"  # refused for another reason; see its code


def key_digest(key: str) -> bytes:
    """The first 8 bytes of the id of each use of ``key``, whatever its scope.

    60 bits of SHA-256(key) around the version that RFC 9562 §5.8 wants there, so that no
    database and no tool meets a UUID that is none.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return digest[:6] + bytes((0x80 | digest[6] & 0x0F, digest[7]))


def key_id(scope: str, key: str) -> uuid.UUID:
    """The primary key of (scope, key), a UUID of version 8.

    Eight bytes from the key, then eight from the length-prefixed pair: one 16-byte index
    gives uniqueness per scope and, by its first half, exact search by key across scopes.
    """
    pair = scope.encode()
    digest = hashlib.sha256(b"%d:%b%b" % (len(pair), pair, key.encode())).digest()
    return uuid.UUID(bytes=key_digest(key) + bytes((0x80 | digest[0] & 0x3F,)) + digest[1:8])


def ids_of(key: str) -> tuple[uuid.UUID, uuid.UUID]:
    """The least and the greatest id that ``key`` can have."""
    first = key_digest(key)
    return uuid.UUID(bytes=first + b"\x80" + bytes(7)), uuid.UUID(
        bytes=first + b"\xbf" + b"\xff" * 7
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Where a request came from, for the audit trail."""

    remote_addr: str | None = None
    user_agent: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """One request that carries an idempotency key, as the engine needs it."""

    scope: str  # whose key it is
    key: str
    fingerprints: tuple[str, ...]  # under the current secret, then under retired ones
    method: str
    path: str  # percent-encoded, without the query string
    route: str  # URL pattern, or the view's name where there is none
    retention: timedelta
    record: str = ""  # JSON of what is kept of the request; "" = nothing
    caller: Caller = field(default_factory=Caller)
    seed: uuid.UUID = field(default_factory=uuid.uuid4)  # for outbound keys, if this is a first use
    never_store: frozenset[int] = frozenset()  # returned statuses that count as "did not happen"
    store_errors: bool = False  # keep returned statuses of 500 and up, too
    keys_per_scope: int | None = None  # live keys that one scope may have
    reuse_expired: bool = True
    max_crashes: int = 10  # executions that ended without a word, before no more are begun
    in_flight_status: int = HTTPStatus.CONFLICT
    conflict_status: int = HTTPStatus.UNPROCESSABLE_ENTITY
    id: uuid.UUID = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", key_id(self.scope, self.key))

    def is_final(self, status: int) -> bool:
        """Whether a returned response is kept, and with it the view's writes."""
        # 405: View and require_POST return it, and no operation has been attempted.
        if status == HTTPStatus.METHOD_NOT_ALLOWED or status in self.never_store:
            return False
        return status < HTTPStatus.INTERNAL_SERVER_ERROR or self.store_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A final response. ``body`` is None if it was too large or not to be kept."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a running view may know of its key."""

    number: int = 1  # executions begun so far, this one included
    seed: uuid.UUID
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What a key holds, as the store read it for one request."""

    same_request: bool = True  # its fingerprint is the request's, and so are scope and key
    attempt: Attempt
    response: StoredResponse | None = None  # None until a request completed
    expired: bool = False
    busy: bool = False  # another request holds it
    ours: bool = False  # claimed, taken over or begun again by this request, just now
    exhausted: bool = False  # unfinished, and too many of its workers died
    record: str = ""  # what was kept of the request that owns it


@dataclass(frozen=True, slots=True)
class Execute:
    """The request is the first of its key, and the key is ours."""


@dataclass(frozen=True, slots=True)
class Replay:
    response: StoredResponse


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key belongs to another request, finished or in flight."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The same request is being executed elsewhere."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The key is past its retention and must not be used again."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The request seems to kill its workers, and is not tried again."""


Decision = Execute | Replay | Conflict | InFlight | Expired | Exhausted


def decide(record: KeyRecord) -> Decision:
    """Decide what becomes of a request, given what its key holds.

    The only place that judges. It is asked twice: before the lock, so that finished keys
    are answered without one, and under it, because the key may have completed meanwhile.
    """
    if record.expired:
        return Expired()
    if not record.same_request:
        return Conflict()
    if record.busy:
        return InFlight()
    if record.exhausted:
        return Exhausted()
    if record.response is None:
        return Execute()
    return Replay(record.response)
