"""What one keyed request leaves behind: a count, an event, a signal and a line in the log."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from asyncio import CancelledError
from types import TracebackType
from typing import Self

from django.db import Error

from . import signals
from .exceptions import IdempotencyError
from .fingerprint import differences
from .models import IdempotencyKey
from .protocol import KeyRecord, Outcome
from .store import Store

__all__ = ["Trail"]

logger = logging.getLogger("django_idempotency")

_SIGNALS = {
    Outcome.EXECUTED: signals.request_executed,
    Outcome.REPLAYED: signals.request_replayed,
    Outcome.FAILED: signals.request_failed,
}


class Trail:
    """Follows one request through the engine; a context manager around ``run()``."""

    def __init__(self, store: Store, *, events: bool) -> None:
        self.store = store
        self.events = events
        self.outcome = Outcome.REFUSED
        self.status: int | None = None
        self.code = ""
        self.attempt = 0
        self.evidence: dict[str, str] = {}
        self._given = 0  # times that the key was given to this request and not yet used
        self._began = time.perf_counter()

    @property
    def duration_ms(self) -> int:
        return round((time.perf_counter() - self._began) * 1000)

    def reserved(self, record: KeyRecord) -> None:
        """Whoever is given the key is counted, and must account for it."""
        self._given += record.ours

    def began(self, record: KeyRecord) -> None:
        """The view starts; unless told otherwise, it failed."""
        self._given -= 1
        self.outcome, self.attempt = Outcome.FAILED, record.attempt.number

    def became(self, outcome: Outcome, status: int | None) -> None:
        self.outcome, self.status = outcome, status

    def conflicted(self, record: KeyRecord) -> None:
        """Keep the evidence: which fields of the two requests differ."""
        self.outcome = Outcome.CONFLICT
        mine = self.store.request.record
        self.evidence = {"record": mine, "differences": _differences(record.record, mine)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, IdempotencyError):
            self.status, self.code = error.status, error.code
        elif error is not None and not self.store.committed:
            self.status = getattr(error, "status_code", None)
        if error is not None and not self.store.committed and self.outcome is Outcome.EXECUTED:
            self.outcome = Outcome.FAILED  # the commit did not go through
        try:
            # A cancelled task (its client hung up) is worth a note; a dying process is not asked.
            if error is None or isinstance(error, (Exception, CancelledError)):
                self._note()
        finally:
            self._log()
        self._send()

    def _note(self) -> None:
        """Record everything but a first execution, which the key itself describes."""
        try:
            for _ in range(self._given):
                self._count("given_way", events=False)
            if self.outcome not in {Outcome.EXECUTED, Outcome.REFUSED}:
                self._count(self.outcome, events=self.events)
        except Error:
            # The answer stands: a replay that cannot be counted is still the right answer.
            logger.exception("A keyed request could not be recorded in the audit trail.")

    def _count(self, kind: str, *, events: bool) -> None:
        # Never waits for the key's row: a refusal is counted while it is locked.
        self.store.rows.count(
            kind,
            status=self.status,
            duration_ms=self.duration_ms,
            evidence=self.evidence,
            events=events,
        )

    def _log(self) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        request = self.store.request
        logger.info(
            "idempotency outcome=%s code=%s key=%s scope=%s route=%s method=%s status=%s "
            "attempt=%d ms=%d",
            self.outcome.value,
            self.code or "-",
            request.id.hex[:8],
            hashlib.sha256(request.scope.encode()).hexdigest()[:8],
            request.route or "-",
            request.method,
            self.status if self.status is not None else "-",
            self.attempt,
            self.duration_ms,
        )

    def _send(self) -> None:
        signal = _SIGNALS.get(self.outcome, signals.request_refused)
        if not signal.has_listeners(IdempotencyKey):
            return
        request = self.store.request
        details = signals.RequestDetails(
            outcome=self.outcome,
            code=self.code,
            status=self.status,
            key_id=request.id,
            scope=request.scope,
            method=request.method,
            path=request.path,
            route=request.route,
            attempt=self.attempt,
            duration_ms=self.duration_ms,
            caller=request.caller,
        )
        signal.send_robust(sender=IdempotencyKey, details=details)


def _differences(before: str, after: str) -> str:
    """JSON of {field: "changed" | "added" | "removed"}; "" where nothing was kept."""
    if not before or not after:
        return ""
    old, new = (json.loads(record).get("fields", {}) for record in (before, after))
    return json.dumps(differences(old, new))  # ASCII: no database refuses it
