"""``ATOMIC_REQUESTS`` and protected views: the engine opens their transaction itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction

__all__ = ["atomic_requests", "own_transactions"]


def own_transactions(view: Callable[..., Any]) -> Callable[..., Any]:
    """Take a view out of ``ATOMIC_REQUESTS``: it opens its transactions itself."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@contextmanager
def atomic_requests() -> Iterator[None]:
    """What ``ATOMIC_REQUESTS`` means, for requests that a protected view runs without a key."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=False):
            if connection.settings_dict["ATOMIC_REQUESTS"]:
                stack.enter_context(transaction.atomic(using=connection.alias))
        yield
