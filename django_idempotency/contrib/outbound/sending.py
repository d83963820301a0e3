"""What is recorded around a call to another service, each step in a transaction of its own.

    open ──claim──> sending ──> succeeded | failed
    unknown ─claim─────^   └──> unknown, to be tried again
    sending, lease over ┘

A claim is committed before the first byte leaves. So a process that dies leaves ``sending``
behind, never an intent that looks as if nothing had been sent.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, router
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from django_idempotency.client.verdict import Answer, Final, judge
from django_idempotency.clock import DatabaseNow

from .refusals import IntentBusy, IntentNotSendable, IntentResolved, WindowClosed

if TYPE_CHECKING:
    from .models import OutboundIntent, OutboundIntentQuerySet

__all__ = [
    *("LEASE", "WINDOW", "Attempt"),
    *("check_options", "claim", "next_pause", "resolve", "sending"),
]

LEASE = timedelta(minutes=5)  # ten times the client's default deadline
WINDOW = timedelta(hours=23)  # Stripe, and this library by default, forget a key after 24 hours

_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_ERROR = 2000  # characters

_UNFINISHED = ("open", "unknown")

logger = logging.getLogger("django_idempotency.outbound")


class Attempt:
    """One attempt that is being made. It counts as a success unless it is told otherwise."""

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.number = number  # 1 for the first that was ever made, in any process
        self.state = "succeeded"
        self.error = ""

    def failed(self, reason: str) -> None:
        """The other side said no: the operation definitely did not take place."""
        self.state, self.error = "failed", reason or "no reason given"

    def unknown(self, reason: str) -> None:
        """The operation may have taken place; try again later."""
        self.state, self.error = "unknown", reason or "no reason given"

    def judge(self, result: object) -> None:
        """Read the outcome from a response of requests or httpx; other results are successes."""
        status, headers = getattr(result, "status_code", None), getattr(result, "headers", None)
        if not isinstance(status, int) or headers is None or _tells_success(status):
            return
        answer = Answer(status, headers, getattr(result, "content", b""))
        refused = status >= 400 and isinstance(judge(answer, doubt=self.number > 1), Final)
        (self.failed if refused else self.unknown)(f"answered {status}")


def _tells_success(status: int) -> bool:
    # The client follows no redirect. 303 says that it is done and where the result is; 301, 302,
    # 307 and 308 come as well from a login page or a moved host, where nothing was done.
    return 200 <= status < 300 or status == 303


def check_options(failed: Any, lease: Any, window: Any) -> None:
    """Before anything is sent: a mistake that shows afterwards would leave the outcome unknown.

    Raises:
        TypeError: ``failed`` is no tuple of exception classes.
        ValueError: ``lease`` or ``window`` is no positive ``timedelta``.
    """
    kinds = failed if isinstance(failed, tuple) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        msg = f"failed must be a tuple of exception classes, not {failed!r}."
        raise TypeError(msg)
    for name, value in (("lease", lease), ("window", window)):
        if not isinstance(value, timedelta) or value <= timedelta(0):
            msg = f"{name} must be a timedelta of more than 0, not {value!r}."
            raise ValueError(msg)


@contextmanager
def sending(
    intent: OutboundIntent,
    *,
    failed: tuple[type[Exception], ...],
    lease: timedelta,
    window: timedelta,
) -> Iterator[Attempt]:
    """See ``OutboundIntent.sending``."""
    check_options(failed, lease, window)
    attempt = Attempt(intent.key, claim(intent, lease=lease, window=window))
    try:
        yield attempt
    except failed as error:
        attempt.failed(_told(error))
        raise
    except BaseException as error:  # Ctrl-C, too: the request may have left
        attempt.unknown(_told(error))
        raise
    finally:
        _record(intent, attempt)


def claim(intent: OutboundIntent, *, lease: timedelta, window: timedelta) -> int:
    """Take the intent for one attempt; the number of the attempt is the fence.

    One conditional UPDATE: of two workers, the second finds nothing to update.
    """
    rows = _rows(intent)
    _refuse_transaction(rows.db)
    free = Q(state__in=_UNFINISHED) | Q(state="sending", next_attempt_at__lte=DatabaseNow())
    young = Q(first_sent_at=None) | Q(first_sent_at__gt=DatabaseNow() - window)
    taken = rows.filter(free, young).update(
        state="sending",
        attempts=F("attempts") + 1,
        first_sent_at=Coalesce("first_sent_at", DatabaseNow()),
        last_attempt_at=DatabaseNow(),
        next_attempt_at=DatabaseNow() + lease,
    )
    intent.refresh_from_db(using=rows.db)
    if not taken:
        raise _refusal(intent)
    return intent.attempts


def next_pause(attempts: int, rand: Callable[[], float] = random.random) -> timedelta:
    """How long the command leaves an intent alone after so many attempts.

    Half of it is jitter. Not all: it must not send the same intent twice in one run.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(max(attempts, 1) - 1, 20)))
    return longest * (0.5 + rand() / 2)


def resolve(intent: OutboundIntent, *, succeeded: bool, note: str) -> None:
    """See ``OutboundIntent.resolve``."""
    if not note.strip():
        msg = "Say in the note how the outcome became known."
        raise ValueError(msg)
    lapsed = Q(state="sending", next_attempt_at__lte=DatabaseNow())
    rows = _rows(intent)
    updated = rows.filter(Q(state="unknown") | lapsed).update(
        state="succeeded" if succeeded else "failed",
        resolved_at=DatabaseNow(),
        next_attempt_at=None,
        last_error=note[:_LONGEST_ERROR],
    )
    intent.refresh_from_db(using=rows.db)
    if not updated:
        msg = f"The outcome is not unknown: the intent is {intent.state}."
        raise ValueError(msg)


def _record(intent: OutboundIntent, attempt: Attempt) -> None:
    rows = _rows(intent)
    mine = Q(state="sending", attempts=attempt.number)
    if attempt.state == "succeeded":
        # A fact, even from a worker that was taken for dead: the key is the same.
        mine = Q(state__in=("sending", "unknown"))
    pause = next_pause(attempt.number)
    resolved = attempt.state != "unknown"
    updated = rows.filter(mine).update(
        state=attempt.state,
        resolved_at=DatabaseNow() if resolved else None,
        next_attempt_at=None if resolved else DatabaseNow() + pause,
        last_error=attempt.error[:_LONGEST_ERROR],
    )
    intent.refresh_from_db(using=rows.db)
    if not updated:
        logger.warning(
            "Attempt %d of %s ended as %s after others had taken it over; it is %s.",
            *(attempt.number, intent.key, attempt.state, intent.state),
        )


def _rows(intent: OutboundIntent) -> OutboundIntentQuerySet:
    model: Any = type(intent)
    alias = intent._state.db or router.db_for_write(model, instance=intent)
    rows: OutboundIntentQuerySet = model.objects.using(alias).filter(pk=intent.pk)
    return rows


def _refuse_transaction(alias: str) -> None:
    blocks = connections[alias].atomic_blocks
    # A TestCase's own transaction is no reason to refuse: Django's durable=True says so, too.
    if any(not getattr(block, "_from_testcase", False) for block in blocks):
        msg = (
            "An intent is sent outside transactions: what is recorded before the call must be "
            "committed by then. Leave transaction.atomic() first, or send in "
            "transaction.on_commit(); with ATOMIC_REQUESTS, mark the view @non_atomic_requests."
        )
        raise RuntimeError(msg)


def _refusal(intent: OutboundIntent) -> IntentNotSendable:
    if intent.is_resolved:
        return IntentResolved(f"{intent} has {intent.state}; it is not sent again.")
    if intent.state == "sending":
        return IntentBusy(
            f"{intent} is being sent elsewhere. If that worker died, it can be sent again at "
            f"{intent.next_attempt_at}."
        )
    return WindowClosed(
        f"{intent} was first sent at {intent.first_sent_at}. The other side may have forgotten "
        "the key by now. Ask it for the outcome, then call resolve()."
    )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
