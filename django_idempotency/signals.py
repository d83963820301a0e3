"""Signals, sent after the database has committed, with one frozen details object.

Receivers get ``sender=IdempotencyKey`` and ``details=RequestDetails``. They are sent with
``send_robust``: a receiver that raises is logged and can never cost a response.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.dispatch import Signal

from .protocol import Caller, Outcome

__all__ = [
    "RequestDetails",
    "request_executed",
    "request_failed",
    "request_refused",
    "request_replayed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetails:
    """One keyed request and what became of it."""

    outcome: Outcome
    code: str  # of the refusal, "" for none
    status: int | None  # HTTP status of the answer; None if an exception ended the request
    key_id: uuid.UUID  # primary key of the IdempotencyKey
    scope: str
    method: str
    path: str
    route: str
    attempt: int  # how many executions of this key were begun, 0 = this one did not execute
    duration_ms: int  # milliseconds in the idempotency layer, the view included
    caller: Caller


request_executed = Signal()  # the view ran, its writes and its response are committed
request_replayed = Signal()  # a retry got the stored response
request_refused = Signal()  # in flight, conflicting reuse, or refused for another reason
request_failed = Signal()  # the view ran and was rolled back; the key is free
