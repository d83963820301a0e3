"""The key of one request, from claim to stored response: who owns it, in which transaction.

A key is claimed and committed before the request runs; the request then runs in one
transaction that begins with a lock on the key's row and ends with the stored response. The
lock is a lease without a clock: it lives as long as the transaction, so a killed worker
leaves nothing to clean up, and its key is free at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    InternalError,
    OperationalError,
    router,
    transaction,
)
from django.db.transaction import TransactionManagementError

from .exceptions import OutcomeUnknown, StoreUnavailable, TooManyKeys
from .failures import BrokenTransaction, is_lost, is_transient, may_begin_again, mysql_code
from .models import IdempotencyKey
from .protocol import Attempt, KeyedRequest, KeyRecord, StoredResponse
from .rows import KeyRows

__all__ = ["Store"]

logger = logging.getLogger("django_idempotency")

_NO_SAVEPOINT = 1305
_MOMENT = 0.02  # seconds; to take a key over takes a tenth of that
ATTEMPTS_TO_CLAIM = 3  # and to lock, with serialization failures; then a request is turned away

_ENCLOSED = (
    "An idempotent view was called inside transaction.atomic(). It must own its transaction, or "
    "a retry could see a response whose writes were rolled back. Remove the atomic(), or the other "
    "idempotent view, around it. For ATOMIC_REQUESTS nothing needs to be done where @idempotent "
    "is on the whole view and every decorator above it uses functools.wraps."
)


class Store:
    """Keys in the database that the router names for them, for one request."""

    def __init__(self, request: KeyedRequest) -> None:
        self.request = request
        self.alias = router.db_for_write(IdempotencyKey)
        self.rows = KeyRows(request, self.alias)
        self.committed = False
        self._tripwire: str | None = None

    # -- before the view

    def reserve(self) -> KeyRecord:
        """Claim the key and commit, or say what it holds.

        A key that nothing counts under (unfinished and not being run, or expired where expired
        keys may be used again) is given to this request, and the execution that follows is
        counted. From here on its fingerprint is the only one that may execute.

        Raises:
            StoreUnavailable: the database failed; nothing has run.
            TooManyKeys: the scope has more live keys than it may.
            ImproperlyConfigured: called inside a transaction.
        """
        self._refuse_enclosing_transaction()
        for remaining in reversed(range(ATTEMPTS_TO_CLAIM)):
            try:
                return self._reserved(self.rows.claim())
            except Error as error:
                if remaining and may_begin_again(error):
                    continue  # serialization failure: begin again, it is mostly a replay now
                logger.exception("The idempotency store failed; the request was not run.")
                raise StoreUnavailable from error
        raise StoreUnavailable

    def _refuse_enclosing_transaction(self) -> None:
        blocks = self.rows.connection.atomic_blocks
        # As Django's own durable=True: the transaction of a TestCase does not count.
        if blocks and not getattr(blocks[-1], "_from_testcase", False):
            raise ImproperlyConfigured(_ENCLOSED)

    def _reserved(self, seen: KeyRecord | None) -> KeyRecord:
        if seen is None:
            self._refuse_too_many()
            return KeyRecord(attempt=Attempt(seed=self.request.seed), ours=True)
        if seen.busy:
            return seen
        if self.is_free(seen):
            return self._take_over(seen)
        return self._begin_again(seen) if seen.response is None else seen

    def _refuse_too_many(self) -> None:
        """Give the new key back if its scope has more than it may.

        Asked after the claim, so that retries and refusals need not ask, and twins of many
        keys are all counted.
        """
        limit = self.request.keys_per_scope
        if limit is None or self.rows.live_keys(limit=limit + 1) <= limit:
            return
        with self._transaction():
            if self.rows.lock() is not None:
                self.rows.give_back()
        raise TooManyKeys

    def is_free(self, record: KeyRecord) -> bool:
        """Whether nothing counts under the key, though it names another request or an old one."""
        if record.response is None:
            return not record.same_request
        return record.expired and self.request.reuse_expired

    def _begin_again(self, seen: KeyRecord) -> KeyRecord:
        """Begin another execution of this very request, which nobody has finished."""
        if self._updates_at_once and not self._is_exhausted(seen):
            return self.rows.begin_again(seen)
        with self._transaction():
            found = self.rows.lock()
            if found is not None and found.response is not None:
                return found
            if found is None or not found.same_request:
                return replace(seen, busy=True)  # it is another's since it was seen
            # Judged anew: the key may have been forgotten, and begun, since it was seen.
            if self._is_exhausted(found):
                return replace(found, exhausted=True)
            return self.rows.begin_again(found)

    def _is_exhausted(self, record: KeyRecord) -> bool:
        """Whether too many executions of the key died without a word."""
        begun, limit = record.attempt.number, self.request.max_crashes
        return begun >= limit and begun - self.rows.accounted() >= limit

    def _take_over(self, seen: KeyRecord) -> KeyRecord:
        """Give a free key to this request, unless another was quicker.

        A key that is locked belongs to a request that runs, or is being taken over at this very
        moment, perhaps by a twin. A second look tells them apart: nobody may hear from his own
        twin that the key belongs to another request.
        """
        found = self._taken_over(seen)
        if self.is_free(found) and found.attempt == seen.attempt:
            time.sleep(_MOMENT)
            found = self._taken_over(seen)
        if self.is_free(found) and (found.expired or self.rows.is_being_deleted()):
            return KeyRecord(attempt=found.attempt, busy=True)  # whose it will be, nobody knows
        return found

    def _taken_over(self, seen: KeyRecord) -> KeyRecord:
        if self._updates_at_once:
            return self.rows.take_over(seen)
        with self._transaction():
            found = self.rows.lock()
            if found is None:
                return self.rows.held()
            return self.rows.take_over(found) if self.is_free(found) else found

    @property
    def _updates_at_once(self) -> bool:
        """MySQL updates no row that it cannot lock without waiting, unless it is locked before."""
        features = self.rows.connection.features
        return self.rows.sql.compound or not features.has_select_for_update

    # -- around the view

    @contextmanager
    def exclusive(self, seen: KeyRecord) -> Iterator[KeyRecord]:
        """Open the request's transaction, lock the key in it and yield what it holds.

        ``busy`` = someone else has the lock. What is raised inside rolls everything back.

        Raises:
            StoreUnavailable: the database failed before the commit; nothing was kept.
            OutcomeUnknown: the connection broke during the commit.

        What an ``on_commit()`` callback raises comes through: the response counts.
        """
        for remaining in reversed(range(ATTEMPTS_TO_CLAIM)):
            locked = committing = False
            try:
                with self._transaction():
                    found = self.rows.lock() or replace(seen, busy=True)
                    locked = True
                    self._stretch_tripwire()
                    self._listen()
                    yield found
                    committing = True
            except (OperationalError, InterfaceError, InternalError) as error:
                if remaining and not locked and may_begin_again(error):
                    continue  # stricter isolation: the row is newer than this transaction
                if self.committed or not is_transient(error):
                    raise
                logger.exception("The database failed while a keyed request was being executed.")
                unknown = committing and is_lost(error)
                raise (OutcomeUnknown if unknown else StoreUnavailable) from error
            return

    def _listen(self) -> None:
        """Learn of the commit before any callback of the view runs, which may fail."""
        # Callbacks do not run in the transaction of a TestCase, and there it might count them.
        if len(self.rows.connection.atomic_blocks) == 1:
            transaction.on_commit(self._note_commit, using=self.alias)

    def _note_commit(self) -> None:
        self.committed = True

    def _stretch_tripwire(self) -> None:
        """Set a savepoint that only this transaction has.

        After a deadlock InnoDB rolls the whole transaction back and begins another without a
        word. A view that swallows the error would go on in that one, without its first writes
        and without the lock. PostgreSQL refuses every statement instead.
        """
        if self.rows.connection.vendor == "mysql":
            self._tripwire = transaction.savepoint(using=self.alias)

    def _is_tripped(self) -> bool:
        """Whether the transaction is no longer the one that began."""
        if self.rows.connection.vendor == "sqlite":
            # A full disk, or an INSERT OR ROLLBACK, undoes the whole of it. Raw SQL that swallows
            # the error goes on without a transaction. (Of a connection that was closed Django
            # itself says so.)
            closed = self.rows.connection.closed_in_transaction
            return not closed and not self.rows.connection.connection.in_transaction
        if self._tripwire is None or not self.rows.connection.errors_occurred:
            return False  # asked after errors only
        try:
            transaction.savepoint_commit(self._tripwire, using=self.alias)
        except OperationalError as error:
            if mysql_code(error) != _NO_SAVEPOINT:
                raise
            return True
        return False

    def _transaction(self) -> transaction.Atomic:
        return transaction.atomic(using=self.alias, durable=True)

    @contextmanager
    def undoable(self) -> Iterator[None]:
        """A savepoint: what is raised inside is undone, the request goes on.

        Raises:
            BrokenTransaction: the block swallowed a database error. Django alone would undo
                its writes, forget the error, and let its response count.
        """
        ended = False
        try:
            with transaction.atomic(using=self.alias):
                yield
                ended = True
                if transaction.get_rollback(using=self.alias):
                    raise BrokenTransaction
        except DatabaseError as error:
            if not ended or is_transient(error) or isinstance(error, BrokenTransaction):
                raise
            raise BrokenTransaction from error

    def recover(self) -> None:
        """Go on after :meth:`undoable` has rolled back to its savepoint."""
        transaction.set_rollback(False, using=self.alias)

    def complete(self, response: StoredResponse, *, duration_ms: int) -> None:
        """Store the response: the last statement of the request's transaction.

        Raises:
            BrokenTransaction: the view swallowed a database error.
            TransactionManagementError: the key vanished.
        """
        if self._is_tripped():
            raise BrokenTransaction
        try:
            stored = self.rows.complete(response, duration_ms=duration_ms)
        except (TransactionManagementError, InternalError) as error:
            if is_transient(error):
                raise
            raise BrokenTransaction from error
        if not stored:
            msg = "The idempotency key was deleted while its request ran; it is rolled back."
            raise TransactionManagementError(msg)

    def abandon(self) -> None:
        """Let the transaction end in a rollback: the returned response is not final."""
        transaction.set_rollback(True, using=self.alias)
