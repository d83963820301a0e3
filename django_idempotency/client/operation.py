"""One logical operation: its key, its attempts, its outcome. The same for sync and async."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .budget import RetryBudget
from .exceptions import OutcomeUnknown
from .policy import RetryPolicy, Timeouts
from .verdict import Answer, Cause, Final, Retry, Unknown, Verdict, judge, judge_lost

try:
    import stamina
except ImportError as error:  # pragma: no cover - the tests have it
    msg = "The client needs stamina: pip install 'django-idempotency[client]'."
    raise ImportError(msg) from error

__all__ = ["DeadlineReached", "Operation", "Timing", "checked_key"]

R = TypeVar("R")

_LONGEST_KEY = 255
_QUERY = re.compile(r"\?\S+")


class DeadlineReached(TimeoutError):
    """An attempt was cut short, because the operation's time is over."""


class _TooLate(Exception):
    """The machine slept longer than it was told; no attempt was made."""


class _Unsettled(Exception):
    """An answer that is not final, on its way through the retry loop."""

    def __init__(self, response: Any, status: int, verdict: Verdict) -> None:
        self.response = response
        self.verdict = verdict
        super().__init__(f"answered {status}")


def checked_key(key: str | None) -> str:
    """The given key, or a new one.

    Raises:
        TypeError: it is no ``str``.
        ValueError: it cannot be sent in a header as it is, or is too long.
    """
    if key is None:
        return str(uuid.uuid4())
    given: Any = key
    if not isinstance(given, str):
        msg = f"An idempotency key must be a str, not {type(given).__name__}: give str(key)."
        raise TypeError(msg)
    plain = key.isascii() and key.isprintable() and key == key.strip()
    if not plain or not 0 < len(key) <= _LONGEST_KEY:
        msg = (
            f"An idempotency key must be 1 to {_LONGEST_KEY} printable ASCII characters, with "
            "no space at either end."
        )
        raise ValueError(msg)
    return key


class Timing:
    """What is left of an operation's time, for the adapter that makes an attempt."""

    def __init__(self, policy: RetryPolicy, ends_at: float, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._ends_at = ends_at
        self._clock = clock

    @property
    def left(self) -> float:
        """Seconds, above 0, which the libraries may take for "no limit"."""
        return max(self._ends_at - self._clock(), 0.001)

    def timeouts(self) -> Timeouts:
        return self._policy.timeouts(self.left)

    def check(self) -> None:
        """Called between the pieces of a body.

        Raises:
            DeadlineReached: the time is over.
        """
        if self._clock() >= self._ends_at:
            msg = "The answer had not arrived whole when the time was over"
            raise DeadlineReached(msg)


class Operation:
    """Counts attempts, judges what they bring, decides about the next.

    stamina runs the loop. It gets each pause from us, in its hook, because its own jitter is
    added on top of the backoff and its own time-out may be overshot.
    """

    def __init__(
        self,
        *,
        key: str,
        policy: RetryPolicy,
        budget: RetryBudget | None,
        cause: Callable[[Exception], Cause | Answer | None],
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.key = key
        self.name = name
        self.attempts = 0
        self.doubt = False  # an attempt may have had its effect
        self._policy = policy
        self._budget = budget
        self._cause = cause
        self._clock = clock
        self._rand = rand
        self._ends_at = clock() + policy.deadline
        self._last: Exception | None = None
        self._reason = ""
        self._out_of_time = f"the deadline of {policy.deadline:g} s leaves no time for one"

    def retries(self) -> Any:
        """stamina's loop, for ``for`` and ``async for``; each turn is a context manager."""
        return stamina.retry_context(on=self._pause, attempts=None, timeout=None)

    def begin(self) -> Timing:
        """An attempt is about to be made."""
        if self.attempts == 0:
            if self._budget is not None:
                self._budget.deposit()
        elif self._clock() >= self._ends_at:
            self._reason = self._out_of_time
            raise _TooLate
        self.attempts += 1
        return Timing(self._policy, self._ends_at, self._clock)

    def settle(self, response: R, answer: Answer) -> R:
        """Return the response if it is final; else raise into the retry loop."""
        verdict = judge(answer, doubt=self.doubt)
        if isinstance(verdict, Final):
            return response
        raise _Unsettled(response, answer.status, verdict)

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Turn what the loop raised in the end into what the caller must know.

        Raises:
            OutcomeUnknown: the operation may have taken place, or may still be tried.
        """
        try:
            yield
        except Exception as error:
            if isinstance(self._verdict(error), Final):
                raise
            self._reason = self._reason or self._why(error)
            raise self._unknown() from (None if isinstance(self._last, _Unsettled) else self._last)

    def _why(self, error: Exception) -> str:
        """Why there was no further attempt, where ``_pause`` has not said it."""
        if isinstance(self._verdict(error), Retry):
            return "stamina is switched off or in testing mode"
        if isinstance(error, _Unsettled):
            return "the last answer settles nothing, and the next would not"
        return "a retry would not cure such an error"

    def _pause(self, error: BaseException) -> float | bool:
        """stamina's hook: seconds until the next attempt, or ``False`` to give up."""
        # stamina asks about Ctrl-C and cancelled tasks as well, whatever its types say.
        verdict = self._verdict(error) if isinstance(error, Exception) else Final()
        if not isinstance(verdict, Retry):
            return False
        if self.attempts >= self._policy.attempts:
            self._reason = f"the policy allows no more than {self.attempts}"
            return False
        left = self._ends_at - self._clock()
        pause = self._policy.pause(
            self.attempts - 1, at_least=verdict.at_least, left=left, rand=self._rand
        )
        if pause is None:
            self._reason = self._out_of_time
            return False
        if self._budget is not None and not self._budget.take():
            self._reason = "the retry budget is used up"
            return False
        return pause

    def _verdict(self, error: Exception) -> Verdict:
        """Of what was raised; also remembers it, and doubt. May be asked twice about one error."""
        if isinstance(error, _TooLate):
            return Unknown()
        self._last = error
        if isinstance(error, _Unsettled):
            verdict = error.verdict
        else:
            found = Cause.LOST if isinstance(error, DeadlineReached) else self._cause(error)
            judged = judge if isinstance(found, Answer) else judge_lost
            verdict = judged(found, doubt=self.doubt)  # type: ignore[arg-type]
        self.doubt |= isinstance(verdict, Unknown) or (isinstance(verdict, Retry) and verdict.doubt)
        return verdict

    def _unknown(self) -> OutcomeUnknown:
        told = str(self._last)
        if not isinstance(self._last, _Unsettled):
            # requests quotes the address; its query may hold what no log should.
            told = _QUERY.sub("?…", f"{type(self._last).__name__}: {told}")
        return OutcomeUnknown(
            key=self.key,
            attempts=self.attempts,
            last_error=told.rstrip(".: "),
            reason=self._reason,
            may_have_happened=self.doubt,
            operation=self.name,
            response=getattr(self._last, "response", None),
        )
