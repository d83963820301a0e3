"""The only module that locks and writes the key of a request, and opens its transaction.

A key is claimed and committed before the request runs; the request then runs in one
transaction that begins with a lock on the key's row and ends with the stored response. The
lock is a lease without a clock: it lives as long as the transaction, so a killed worker
leaves nothing to clean up, and its key is free at once.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import (
    Error,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.db.transaction import TransactionManagementError

from .exceptions import OutcomeUnknown, StoreUnavailable
from .failures import is_lost, is_transient, sqlstate
from .models import IdempotencyKey
from .protocol import Attempt, KeyedRequest, KeyRecord, StoredResponse
from .sql import statements_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

__all__ = ["Store"]

logger = logging.getLogger("django_idempotency")

EVENTS_PER_KIND = 100  # events kept per key and kind; the tally counts all
ATTEMPTS_TO_CLAIM = 3  # passes after a serialization failure, before a request is turned away

_SWALLOWED = (
    "The view caught a database error and went on, so its transaction is broken and its writes "
    "are lost. Wrap the statement that may fail in its own transaction.atomic() inside the try "
    "block, or let the error out."
)
_ENCLOSED = (
    "An idempotent view was called inside transaction.atomic(). It must own its transaction, or "
    "a retry could see a response whose writes were rolled back. Remove the atomic() around it; "
    "for ATOMIC_REQUESTS nothing needs to be done."
)


class Store:
    """Keys in the database that the router names for them, for one request."""

    def __init__(self, request: KeyedRequest) -> None:
        self.request = request
        self.alias = router.db_for_write(IdempotencyKey)
        self.connection: BaseDatabaseWrapper = connections[self.alias]
        self.sql = statements_for(self.alias)
        self._cursor: CursorWrapper | None = None
        self._reached: Any = None  # the driver's connection that the cursor belongs to

    # -- before the view

    def reserve(self) -> KeyRecord:
        """Claim the key and commit, or say what it holds.

        A key that nothing counts under (unfinished, or expired where expired keys may be used
        again) is given to this request. From here on its fingerprint is the only one that may
        execute.

        Raises:
            StoreUnavailable: the database failed; nothing has run.
            ImproperlyConfigured: called inside a transaction.
        """
        self._refuse_enclosing_transaction()
        for remaining in reversed(range(ATTEMPTS_TO_CLAIM)):
            try:
                record = self._claim()
                return self._take_over() if self._is_free(record) else record
            except Error as error:
                if remaining and sqlstate(error).startswith("40"):
                    continue  # serialization failure: begin again, it is mostly a replay now
                logger.exception("The idempotency store failed; the request was not run.")
                raise StoreUnavailable from error
        raise StoreUnavailable

    def _refuse_enclosing_transaction(self) -> None:
        blocks = self.connection.atomic_blocks
        # As Django's own durable=True: the transaction of a TestCase does not count.
        if blocks and not getattr(blocks[-1], "_from_testcase", False):
            raise ImproperlyConfigured(_ENCLOSED)

    def _claim(self) -> KeyRecord:
        mine = KeyRecord(attempt=Attempt(seed=self.request.seed), ours=True)
        if not self.sql.claim_reads:
            return self._look() or (mine if self._insert() else self._held())
        try:
            row = self._execute(self.sql.claim, (*self._claimed(), self._pk)).fetchone()
        except OperationalError as error:
            if sqlstate(error) != "55P03":
                raise
            return self._held()  # a twin is committing
        # No row: it is ours, or inserted after this statement's snapshot. The lock will tell.
        return mine if row is None else self._record(row)

    def _insert(self) -> bool:
        return bool(self._execute(self.sql.claim, self._claimed()).rowcount == 1)

    def _look(self) -> KeyRecord | None:
        row = self._execute(self.sql.look, (self._pk,)).fetchone()
        return None if row is None else self._record(row)

    def _held(self) -> KeyRecord:
        """What the key holds, known to be there; unfinished = another request has it."""
        record = self._look() or KeyRecord(attempt=Attempt(seed=self.request.seed))
        return replace(record, busy=record.response is None)

    def _is_free(self, record: KeyRecord) -> bool:
        """Whether nothing counts under the key, though it names another request or an old one.

        An unfinished key of the same request needs no take-over: who gets its lock runs it.
        """
        if record.busy or record.ours:
            return False
        if record.response is None:
            return not record.same_request
        return record.expired and self.request.reuse_expired

    def _take_over(self) -> KeyRecord:
        """Give a free key to this request, unless another was quicker."""
        with self._transaction():
            found = self._lock()
            if found is None:
                return self._held()
            if not self._is_free(found):
                return found
            attempt = Attempt(
                number=1 if found.expired else found.attempt.number,
                # An outbound key must not outlive the request it was made for.
                seed=self.request.seed,
            )
            self._write_take_over(attempt, renewed=found.response is not None)
        return KeyRecord(attempt=attempt, ours=True)

    def _write_take_over(self, attempt: Attempt, *, renewed: bool) -> None:
        request, caller = self.request, self.request.caller
        parameters = (
            *(request.fingerprints[0], request.method, request.path, request.route),
            *(request.record, caller.remote_addr, caller.user_agent, caller.request_id),
            *(self._uuid(attempt.seed), attempt.number),
            *(renewed, self.sql.span(request.retention), self._pk),
        )
        self._execute(self.sql.take_over, parameters)
        if renewed:
            self._execute(self.sql.forget_tally, (self._pk,))

    # -- around the view

    @contextmanager
    def exclusive(self, seen: KeyRecord) -> Iterator[KeyRecord]:
        """Open the request's transaction, lock the key in it and yield what it holds.

        ``busy`` = someone else has the lock. What is raised inside rolls everything back.

        Raises:
            StoreUnavailable: the database failed before the commit; nothing was kept.
            OutcomeUnknown: the connection broke during the commit.
        """
        committing = False
        try:
            with self._transaction():
                yield self._lock() or replace(seen, busy=True)
                committing = True
        except (OperationalError, InterfaceError) as error:
            if not is_transient(error):
                raise
            logger.exception("The database failed while a keyed request was being executed.")
            unknown = committing and is_lost(error)
            raise (OutcomeUnknown if unknown else StoreUnavailable) from error

    def _transaction(self) -> transaction.Atomic:
        return transaction.atomic(using=self.alias, durable=True)

    @contextmanager
    def undoable(self) -> Iterator[None]:
        """A savepoint: what is raised inside is undone, the request goes on."""
        with transaction.atomic(using=self.alias):
            yield

    def _lock(self) -> KeyRecord | None:
        """Lock the row and read it; None = someone else holds it."""
        row = self._execute(self.sql.lock, (self._pk,)).fetchone()
        return None if row is None else self._record(row)

    def recover(self) -> None:
        """Go on after :meth:`undoable` has rolled back to its savepoint."""
        transaction.set_rollback(False, using=self.alias)

    def complete(self, response: StoredResponse, *, duration_ms: int) -> None:
        """Store the response: the last statement of the request's transaction.

        Raises:
            TransactionManagementError: the view swallowed a database error, or the key
                vanished; the transaction rolls back.
        """
        headers = json.dumps(response.headers, separators=(",", ":"))
        retention = self.request.retention
        spans = (self.sql.span(retention / 2), self.sql.span(retention))
        parameters = (response.status, headers, response.body, duration_ms, *spans, self._pk)
        try:
            stored = self._execute(self.sql.store, parameters).rowcount
        except (TransactionManagementError, InternalError) as error:
            raise TransactionManagementError(_SWALLOWED) from error
        if stored != 1:
            msg = "The idempotency key was deleted while its request ran; it is rolled back."
            raise TransactionManagementError(msg)

    def abandon(self) -> None:
        """Let the transaction end in a rollback: the returned response is not final."""
        transaction.set_rollback(True, using=self.alias)

    # -- after the view

    def note(
        self,
        kind: str,
        *,
        status: int | None,
        duration_ms: int,
        evidence: Mapping[str, str],
        events: bool,
    ) -> None:
        """Count one more use of the key and describe it, apart from the request's own fate.

        Never waits for the key's row: a refusal in flight is counted while it is locked.
        """
        request, caller = self.request, self.request.caller
        event = (
            *(self._pk, kind, status, duration_ms, request.method, request.path),
            *(caller.remote_addr, caller.user_agent, caller.request_id),
            *(evidence.get("differences", ""), evidence.get("record", "")),
        )
        limit = EVENTS_PER_KIND if events else 0
        if self.sql.tally_tells:
            self._execute(self.sql.tally[kind], (self._pk, *event, limit))
            return
        with transaction.atomic(using=self.alias):
            self._execute(self.sql.tally[kind], (self._pk,))
            if events:
                self._execute(self.sql.event[kind], (*event, self._pk, limit))

    def note_attempt(self) -> None:
        """Count a failed execution on the key, unless the next one has it already."""
        with self._transaction():
            found = self._lock()
            if found is not None and found.response is None:
                self._execute(self.sql.failed, (self._pk,))

    # -- parameters and rows

    def _execute(self, statement: str, parameters: Sequence[Any]) -> CursorWrapper:
        """Run a statement on the one cursor of this request: making one costs 30 µs of CPU."""
        if self._cursor is None or self._reached is not self.connection.connection:
            self._cursor = self.connection.cursor()
            self._reached = self.connection.connection
        self._cursor.execute(statement, parameters)
        return self._cursor

    @property
    def _pk(self) -> Any:
        return self._uuid(self.request.id)

    def _uuid(self, value: uuid.UUID) -> Any:
        return value if self.connection.features.has_native_uuid_field else value.hex

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
    """A time as a cursor returns it: SQLite gives text, naive ones are in UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
