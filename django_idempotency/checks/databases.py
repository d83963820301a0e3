"""The database that holds the keys: whether it can keep the promise, and what it keeps less of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import Error as DatabaseError
from django.db import connections, router

from django_idempotency.models import IdempotencyKey

from .servers import mysql, postgresql, sqlite

__all__ = ["check_database", "check_engine"]

_LOOK: dict[str, Callable[[Any], Iterator[CheckMessage]]] = {
    "mysql": mysql,
    "postgresql": postgresql,
    "sqlite": sqlite,
}
_WRITES_AT_ONCE = {"IMMEDIATE", "EXCLUSIVE"}  # of SQLite's transaction modes


def check_engine(**kwargs: Any) -> list[CheckMessage]:
    """E003: no row locks. E004: SQLite without IMMEDIATE. E005: autocommit off."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if connection.vendor == "sqlite":
        if str(options.get("transaction_mode")).upper() not in _WRITES_AT_ONCE:
            found.append(
                checks.Error(
                    f"DATABASES[{alias!r}] is SQLite with deferred transactions: concurrent "
                    "requests fail with 'database is locked'.",
                    hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE"}.',
                    id="django_idempotency.E004",
                )
            )
    elif connection.vendor not in {"postgresql", "mysql"}:
        found.append(
            checks.Error(
                f"DATABASES[{alias!r}] ({connection.vendor}) is not known to lock rows as "
                "idempotency keys need it.",
                hint="Use PostgreSQL, MySQL, MariaDB or SQLite for the key table.",
                id="django_idempotency.E003",
            )
        )
    if not connection.settings_dict.get("AUTOCOMMIT", True):
        found.append(
            checks.Error(
                f"DATABASES[{alias!r}] has AUTOCOMMIT off, so no key can be claimed and committed.",
                hint="Remove AUTOCOMMIT = False.",
                id="django_idempotency.E005",
            )
        )
    return found


def check_database(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E003: too old. W002, W003, W006, W009: time-outs. W004, W005: where the promise is weaker."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    look = _LOOK.get(connection.vendor)
    if look is None or alias not in (databases or ()):
        return []
    try:
        return list(look(connection))
    except DatabaseError:
        return []  # not there: the first request will say so with 503
