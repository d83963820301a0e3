"""Who sends the intents of which purpose, when the command finds them unresolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .sending import LEASE, WINDOW, check_options

if TYPE_CHECKING:
    from .models import OutboundIntent

__all__ = ["Handler", "handlers", "sends"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    purpose: str
    call: Callable[[OutboundIntent], Any]
    failed: tuple[type[Exception], ...]
    lease: timedelta
    window: timedelta

    def send(self, intent: OutboundIntent) -> None:
        """One attempt, recorded."""
        intent.send(
            lambda _key: self.call(intent),
            failed=self.failed,
            lease=self.lease,
            window=self.window,
        )


handlers: dict[str, Handler] = {}


def sends(
    purpose: str,
    *,
    failed: tuple[type[Exception], ...] = (),
    lease: timedelta = LEASE,
    window: timedelta = WINDOW,
) -> Callable[[F], F]:
    """Register a function that sends the intents of one purpose, with ``intent.key``.

    Write it in the module ``outbound`` of an app; it is imported at the start. The arguments
    are those of ``OutboundIntent.sending``. A response of requests or httpx that it returns is
    judged; what it raises is unknown, unless it is one of ``failed``.

    Raises:
        TypeError: ``failed`` is no tuple of exception classes.
        ValueError: another function is registered for the purpose, or a duration is not positive.
    """
    check_options(failed, lease, window)

    def register(call: F) -> F:
        if purpose in handlers:
            msg = f"{handlers[purpose].call!r} sends {purpose!r} already; choose another purpose."
            raise ValueError(msg)
        handlers[purpose] = Handler(
            purpose=purpose, call=call, failed=failed, lease=lease, window=window
        )
        return call

    return register
