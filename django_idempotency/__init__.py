"""Retry-safe API writes for Django: run once, answer every retry with the first response.

Return a response and it is final; raise, and it never happened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .decorators import idempotent as idempotent
    from .exceptions import Undone as Undone
    from .mixins import IdempotentMixin as IdempotentMixin

__all__ = ["IdempotentMixin", "Undone", "idempotent"]
__version__ = "0.1.0"

_HOMES = {"IdempotentMixin": "mixins", "Undone": "exceptions", "idempotent": "decorators"}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): Django imports this package before it can load models.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
