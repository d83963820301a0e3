"""The rows of one request's key: parameters in, records out, one cursor for all of it."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, OperationalError, connections, transaction

from .columns import uuid_parameter
from .failures import may_begin_again, mysql_code, sqlstate
from .protocol import Attempt, KeyedRequest, KeyRecord, StoredResponse
from .sql import statements_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from .statements import Statements

__all__ = ["KeyRows"]

logger = logging.getLogger("django_idempotency")

EVENTS_PER_KIND = 100  # events kept per key and kind; the tally counts all
_LOCK_NOT_AVAILABLE = "55P03"
_TAKEN_MYSQL = {1062, 1205}  # it is there; it is there and locked


class KeyRows:
    """Runs the statements of ``sql`` for one request. Opens no transaction but for a count."""

    def __init__(self, request: KeyedRequest, alias: str) -> None:
        self.request = request
        self.alias = alias
        self.connection: BaseDatabaseWrapper = connections[alias]
        self._cursor: CursorWrapper | None = None
        self._reached: Any = None  # the driver's connection that the cursor belongs to

    @cached_property
    def sql(self) -> Statements:
        """Made on demand: MySQL is asked what it can, and may not be there."""
        return statements_for(self.alias)

    def claim(self) -> KeyRecord | None:
        """Insert the key, or return what it holds; None = nobody is known to have it."""
        if not self.sql.compound:
            found = self.look()
            return self.held() if found is None and not self._insert() else found
        try:
            row = self._execute(self.sql.claim, (self._pk, *self._claimed())).fetchone()
        except OperationalError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            return self.held()  # a twin is claiming it
        # No row: inserted by us, or by another after this statement's snapshot. The lock tells.
        return None if row is None else self._record(row)

    def _insert(self) -> bool:
        """Whether the key was not there and is now."""
        try:
            return bool(self._execute(self.sql.claim, self._claimed()).rowcount == 1)
        except (IntegrityError, OperationalError) as error:
            if mysql_code(error) not in _TAKEN_MYSQL:
                raise
            return False

    def look(self) -> KeyRecord | None:
        """Read the key; None = it is not there."""
        row = self._execute(self.sql.look, (self._pk,)).fetchone()
        return None if row is None else self._record(row)

    def held(self) -> KeyRecord:
        """What the key holds, known to be there; unfinished = another request has it."""
        record = self.look() or KeyRecord(attempt=Attempt(seed=self.request.seed))
        return replace(record, busy=record.response is None)

    def lock(self) -> KeyRecord | None:
        """Lock the row and read it; None = someone else holds it."""
        row = self._execute(self.sql.lock, (self._pk,)).fetchone()
        return None if row is None else self._record(row)

    def is_being_deleted(self) -> bool:
        """Whether upkeep holds the row, and no request; PostgreSQL alone can tell."""
        if self.sql.being_deleted is None:
            return False
        return self._execute(self.sql.being_deleted, (self._pk,)).fetchone() is None

    def begin_again(self, seen: KeyRecord) -> KeyRecord:
        """Count one more execution of an unfinished key; it must still be as ``seen``.

        Of twins that come at once one succeeds; for the others the key is busy.
        """
        number, retention = seen.attempt.number, self.request.retention
        spans = (self.sql.span(retention / 2), self.sql.span(retention))
        if self._execute(self.sql.begin_again, (*spans, *self._as(seen))).rowcount == 1:
            return replace(seen, attempt=replace(seen.attempt, number=number + 1), ours=True)
        found = replace(seen, busy=True) if self.sql.compound else self.held()
        # Unfinished and another request's by now: whether it will be executed, nobody knows.
        return replace(seen, busy=True) if found.busy else found

    def live_keys(self, *, limit: int) -> int:
        """How many keys of this scope have not expired, at most ``limit``."""
        cursor = self._execute(self.sql.live, (self.request.scope, limit))
        return int(cursor.fetchone()[0])

    def give_back(self) -> None:
        """Delete the locked row of a claim that is not to be used."""
        self._execute(self.sql.give_back, (self._pk,))

    def accounted(self) -> int:
        """How many executions failed, or were not begun after all, and lived to say so."""
        row = self._execute(self.sql.accounted, (self._pk,)).fetchone()
        return 0 if row is None else int(row[0])

    def take_over(self, seen: KeyRecord) -> KeyRecord:
        """Give a free key to this request; it must still be as ``seen``.

        Workers that died did so for the request before it: their count begins anew. So does
        every count of a key that has expired.
        """
        request, caller = self.request, self.request.caller
        number = 1 if seen.expired else self.accounted() + 1
        parameters = (
            *(request.fingerprints[0], request.method, request.path, request.route),
            *(request.record, caller.remote_addr, caller.user_agent, caller.request_id),
            # An outbound key must not outlive the request it was made for.
            *(self._uuid(request.seed), number, self.sql.span(request.retention)),
            *self._as(seen),
        )
        statement = self.sql.take_over[seen.expired]
        if self.sql.compound:
            taken = self._execute(statement, parameters).fetchone() is not None
        else:
            with transaction.atomic(using=self.alias):
                taken = self._execute(statement, parameters).rowcount == 1
                if taken and seen.expired:
                    self._execute(self.sql.forget_tally, (self._pk,))
        if not taken:
            return self.held()
        return KeyRecord(attempt=Attempt(number=number, seed=request.seed), ours=True)

    def complete(self, response: StoredResponse, *, duration_ms: int) -> bool:
        """Store the response in the locked row; False = it is gone, or has one already."""
        headers = json.dumps(response.headers, separators=(",", ":"))
        stored = (response.status, headers, response.body, duration_ms)
        # An execution begins with at least half of the retention left.
        retention = self.request.retention
        if timedelta(milliseconds=duration_ms) < retention / 4:
            return bool(self._execute(self.sql.store, (*stored, self._pk)).rowcount == 1)
        spans = (self.sql.span(retention / 2), self.sql.span(retention))
        return bool(self._execute(self.sql.store_late, (*stored, *spans, self._pk)).rowcount == 1)

    def count(
        self,
        kind: str,
        *,
        status: int | None,
        duration_ms: int,
        evidence: Mapping[str, str],
        events: bool,
    ) -> None:
        """Add one to the tally of ``kind``; with ``events`` describe it, up to the bound."""
        request, caller = self.request, self.request.caller
        event = (
            *(self._pk, kind, status, duration_ms, request.method, request.path),
            *(caller.remote_addr, caller.user_agent, caller.request_id),
            *(evidence.get("differences", ""), evidence.get("record", "")),
        )
        if self.sql.compound:
            parameters = (self._pk, *event, EVENTS_PER_KIND if events else 0)
            try:
                self._execute(self.sql.tally[kind], parameters)
            except OperationalError as error:
                if not may_begin_again(error):
                    raise
                # Under stricter isolation, by the server's default, each use of a hot key makes
                # those beside it fail; under this one they wait for each other.
                with transaction.atomic(using=self.alias):
                    self._execute(self.sql.relaxed, ())
                    self._execute(self.sql.tally[kind], parameters)
            return
        with transaction.atomic(using=self.alias):
            self._execute(self.sql.tally[kind], (self._pk,))
            if events:
                self._execute(self.sql.event[kind], (*event, self._pk, EVENTS_PER_KIND))

    # -- parameters and rows

    def _execute(self, statement: str, parameters: Sequence[Any]) -> CursorWrapper:
        if self._cursor is None or self._reached is not self.connection.connection:
            self._cursor = self.connection.cursor()  # 30 µs of CPU, so not for each statement
            self._reached = self.connection.connection
        self._cursor.execute(statement, parameters)
        return self._cursor

    @property
    def _pk(self) -> Any:
        return self._uuid(self.request.id)

    def _uuid(self, value: uuid.UUID) -> Any:
        return uuid_parameter(value, self.connection)

    def _as(self, seen: KeyRecord) -> Sequence[Any]:
        return self._pk, seen.attempt.number, self._uuid(seen.attempt.seed)

    def _claimed(self) -> Sequence[Any]:
        request, caller = self.request, self.request.caller
        return (
            *(self._pk, request.scope, request.key, request.fingerprints[0]),
            *(request.method, request.path, request.route, request.record),
            *(caller.remote_addr, caller.user_agent, caller.request_id),
            *(self._uuid(request.seed), 1, self.sql.span(request.retention)),
        )

    def _record(self, row: Sequence[Any]) -> KeyRecord:
        scope, key, fingerprint, attempts, seed, expires_at, expired, *rest = row
        status, headers, body, record = rest
        request = self.request
        if (scope, key) != (request.scope, request.key):  # two pairs with one digest
            logger.error("Two idempotency keys share the id %s; the second is refused.", request.id)
            fingerprint = None
        response = None
        if status is not None:
            pairs = tuple((name, value) for name, value in json.loads(headers))
            content = None if body is None else bytes(body)
            response = StoredResponse(status=status, headers=pairs, body=content)
        return KeyRecord(
            same_request=fingerprint in request.fingerprints,
            attempt=Attempt(
                number=attempts,
                seed=seed if isinstance(seed, uuid.UUID) else uuid.UUID(str(seed)),
                expires_at=_moment(expires_at),
            ),
            response=response,
            expired=response is not None and bool(expired),
            record=record or "",
        )


def _moment(value: Any) -> datetime:
    """A time as a cursor returns it: in seconds, as text on SQLite, without a zone on MySQL."""
    if isinstance(value, (float, Decimal)):
        return datetime.fromtimestamp(float(value), UTC)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
