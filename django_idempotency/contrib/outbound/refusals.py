"""Why an intent is not sent now. Each message says what to do."""

from __future__ import annotations

__all__ = ["IntentBusy", "IntentNotSendable", "IntentResolved", "WindowClosed"]


class IntentNotSendable(Exception):
    """Nothing was sent. The subclasses say why."""


class IntentBusy(IntentNotSendable):
    """Another worker is sending it, or died doing so less than a lease ago."""


class IntentResolved(IntentNotSendable):
    """Its outcome is known. A new operation needs an intent with another purpose or object."""


class WindowClosed(IntentNotSendable):
    """The first attempt is so long ago that the other side may have forgotten the key."""
