"""When to try again: a value with documented defaults. All times are in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["RetryPolicy", "Timeouts", "full_jitter"]

Random = Callable[[], float]

SHORTEST_ATTEMPT = 0.05  # a shorter one only makes the outcome doubtful
LONGEST = 30 * 24 * 3600.0  # more is a mistake of units, and more than some systems can wait
_EXTRA = 0.1  # of a server's Retry-After, so that all who were told the same do not return at once
_LARGEST_EXPONENT = 64  # past any cap; 2.0**1024 would overflow


def full_jitter(retry: int, *, base: float, cap: float, rand: Random = random.random) -> float:
    """The pause before retry number ``retry``, in seconds.

    Uniform in ``[0, min(cap, base * 2**retry)]``, so that clients that failed together do not
    return together.

    Args:
        retry: retries made so far; 0 before the first.
        base: longest pause before the first retry, in seconds.
        cap: longest pause of all, in seconds.
        rand: returns a float in ``[0, 1)``.

    Raises:
        ValueError: ``retry`` is negative.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if retry < 0:
        msg = f"retry must be 0 or more, not {retry}."
        raise ValueError(msg)
    return rand() * min(cap, base * 2.0 ** min(retry, _LARGEST_EXPONENT))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What one attempt may take, in seconds."""

    connect: float
    read: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, how soon and for how long an operation is tried.

    The defaults suit a call that a person waits for. A worker can be more patient:
    ``RetryPolicy(attempts=10, cap=60, deadline=600)``.

    Raises:
        ValueError: a time is not a positive number of seconds or is longer than 30 days,
            ``attempts`` is below 1, or ``base`` exceeds ``cap``.
    """

    attempts: int = 5
    """At most so many, the first included."""

    base: float = 0.5
    """Longest pause before the first retry; each later one may be twice as long."""

    cap: float = 8.0
    """Longest pause of all. A server's ``Retry-After`` may ask for more."""

    deadline: float = 30.0
    """From the first attempt to the last moment of the last; pauses included."""

    connect_timeout: float = 3.0
    """For a connection to be made, in each attempt."""

    timeout: float = 10.0
    """For the server's answer, in each attempt."""

    def __post_init__(self) -> None:
        for name in ("base", "cap", "deadline", "connect_timeout", "timeout"):
            _require_seconds(name, getattr(self, name))
        attempts: Any = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            msg = f"attempts must be a whole number of 1 or more, not {attempts!r}."
            raise ValueError(msg)
        if self.base > self.cap:
            msg = f"base must not exceed cap, the longest pause: {self.base!r} > {self.cap!r}."
            raise ValueError(msg)

    def timeouts(self, left: float) -> Timeouts:
        """What an attempt may take when ``left`` seconds are left in all."""
        whole = self.connect_timeout + self.timeout
        return Timeouts(min(self.connect_timeout, left), min(self.timeout, left), min(whole, left))

    def pause(
        self, retry: int, *, at_least: float, left: float, rand: Random = random.random
    ) -> float | None:
        """Seconds to wait before retry number ``retry``, or ``None``: time does not allow it.

        Never less than the server asked for (``at_least``), and never so long that no attempt
        would fit into the ``left`` seconds.
        """
        room = left - SHORTEST_ATTEMPT
        if at_least > room or room <= 0:
            return None
        backoff = full_jitter(retry, base=self.base, cap=min(self.cap, room), rand=rand)
        told = at_least + min(_EXTRA * at_least, room - at_least) * rand()
        return max(backoff, told)


def _require_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value <= LONGEST):  # NaN is neither
        msg = (
            f"{name} must be a positive number of seconds, at most {LONGEST:.0f} (30 days), "
            f"not {value!r}."
        )
        raise ValueError(msg)
