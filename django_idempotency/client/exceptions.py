"""What the client raises beside what the HTTP library raises."""

from __future__ import annotations

from typing import Any

__all__ = ["OutcomeUnknown"]


class OutcomeUnknown(Exception):
    """Nobody knows whether the operation took place. It is no failure.

    Do not make a new key. Send the same request with the same key again later, or ask the
    server. The exception of the last attempt is ``__cause__``.
    """

    def __init__(
        self,
        *,
        key: str,
        attempts: int,
        last_error: str,
        reason: str,
        may_have_happened: bool,
        operation: str = "",
        response: Any = None,
    ) -> None:
        self.key = key
        self.attempts = attempts  # that were sent or tried to connect
        self.last_error = last_error  # "ReadTimeout: timed out", "answered 503"
        self.reason = reason  # why there was no further attempt
        self.may_have_happened = may_have_happened  # False: no attempt can have had its effect
        self.operation = operation  # method and URL, without its query
        self.response = response  # of the last attempt, if it got one
        fact = "is unknown" if may_have_happened else "is open: no attempt was accepted"
        super().__init__(
            f"The outcome of {operation or 'the operation'} {fact}. Last error: {last_error}. "
            f"No further attempt: {reason}. Send the same request with the key {key} again, or "
            "ask the server; a new key could do it twice."
        )

    def __reduce__(self) -> Any:
        # Task queues pickle what a task raised. The response may not survive that.
        names = ("key", "attempts", "last_error", "reason", "may_have_happened", "operation")
        return _rebuild, ({name: getattr(self, name) for name in names},)


def _rebuild(facts: dict[str, Any]) -> OutcomeUnknown:
    return OutcomeUnknown(**facts)
