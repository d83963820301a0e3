"""Which of the databases the code at hand works on: keys and business rows, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar[str] = ContextVar("shard", default="default")
SHARDED = {"django_idempotency", "benchmarks"}


class Router:
    """Keys and payments are where :func:`on` says; users and sessions in the default database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return _current.get() if model._meta.app_label in SHARDED else None

    db_for_write = db_for_read


@contextmanager
def on(alias: str) -> Iterator[None]:
    token = _current.set(alias)
    try:
        yield
    finally:
        _current.reset(token)


def alias_of(rows: int) -> str:
    return f"rows_{rows}"
