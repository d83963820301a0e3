"""Keys for calls to other services, stored with the row they belong to. An app of its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .handlers import sends as sends
    from .models import OutboundIntent as OutboundIntent
    from .refusals import IntentBusy as IntentBusy
    from .refusals import IntentNotSendable as IntentNotSendable
    from .refusals import IntentResolved as IntentResolved
    from .refusals import WindowClosed as WindowClosed

__all__ = [
    "IntentBusy",
    "IntentNotSendable",
    "IntentResolved",
    "OutboundIntent",
    "WindowClosed",
    "sends",
]

_HOMES = {
    "IntentBusy": "refusals",
    "IntentNotSendable": "refusals",
    "IntentResolved": "refusals",
    "OutboundIntent": "models",
    "WindowClosed": "refusals",
    "sends": "handlers",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): Django imports this package before it can load models.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
