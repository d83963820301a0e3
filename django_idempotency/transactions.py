"""``ATOMIC_REQUESTS`` and protected views: the engine opens their transaction itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction

__all__ = ["atomic_requests", "outside_tests", "own_transactions"]


def own_transactions(view: Callable[..., Any]) -> Callable[..., Any]:
    """Take a view out of ``ATOMIC_REQUESTS``: it opens its transactions itself."""
    # A set of its own: functools.wraps shares that of the view it was made from.
    vars(view)["_non_atomic_requests"] = set(getattr(view, "_non_atomic_requests", ()))
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


@contextmanager
def outside_tests() -> Iterator[None]:
    """Keep DRF's ``set_rollback()`` from a ``TestCase``'s transaction.

    After an error DRF marks the innermost transaction of each ``ATOMIC_REQUESTS`` database.
    A protected view has left its own by then, so in a test that would be the test's, and
    every later query of the test would fail.
    """
    tests = [
        connection
        for connection in connections.all(initialized_only=True)
        if connection.atomic_blocks
        and getattr(connection.atomic_blocks[-1], "_from_testcase", False)
        and not connection.needs_rollback
    ]
    yield
    for connection in tests:
        connection.needs_rollback = False
