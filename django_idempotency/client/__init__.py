"""The retrying client: one key per operation, the same bytes in every attempt, honest outcomes.

It needs the extra ``client`` and requests or httpx. It reads no Django settings and imports
nothing else of this package, so that scripts and other services can use it, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .budget import RetryBudget as RetryBudget
    from .clients import AsyncRetryingClient as AsyncRetryingClient
    from .clients import RetryingClient as RetryingClient
    from .exceptions import OutcomeUnknown as OutcomeUnknown
    from .policy import RetryPolicy as RetryPolicy

__all__ = [
    "AsyncRetryingClient",
    "OutcomeUnknown",
    "RetryBudget",
    "RetryPolicy",
    "RetryingClient",
]

_HOMES = {
    "AsyncRetryingClient": "clients",
    "OutcomeUnknown": "exceptions",
    "RetryBudget": "budget",
    "RetryPolicy": "policy",
    "RetryingClient": "clients",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562): the policy and the judge are of use where stamina is not installed.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
