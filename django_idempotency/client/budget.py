"""A retry budget: in a storm, the retries of one client stay a small share of its traffic."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["RetryBudget"]


class RetryBudget:
    """A token bucket. Each operation puts ``share`` tokens in, each retry takes one out.

    So ``n`` operations never cause more than ``burst + share * n`` retries. Share one budget
    between all clients of one server in a process; it is safe to use from several threads.

    Args:
        share: retries that an operation may add on average, above 0 and at most 1; 0.1 = one
            retry for ten operations.
        burst: tokens at the start, and the most that are kept: retries that a quiet client
            may make at once.

    Raises:
        ValueError: ``share`` or ``burst`` is outside its bounds.
    """

    def __init__(self, share: float = 0.1, *, burst: float = 10.0) -> None:
        if not _is_number(share) or not 0 < share <= 1:
            msg = f"share must be above 0 and at most 1, not {share!r}."
            raise ValueError(msg)
        if not _is_number(burst) or not 1 <= burst < float("inf"):
            msg = f"burst must be a number of 1 or more, not {burst!r}."
            raise ValueError(msg)
        self.share = share
        self.burst = burst
        self._tokens = float(burst)
        self._lock = threading.Lock()

    @property
    def available(self) -> float:
        """Retries that may be made now."""
        return self._tokens

    def deposit(self) -> None:
        """An operation was begun."""
        with self._lock:
            self._tokens = min(self.burst, self._tokens + self.share)

    def take(self) -> bool:
        """Take the token of one retry; ``False`` if there is none."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
