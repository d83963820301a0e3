"""The database that holds the keys: what it can promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import Error as DatabaseError
from django.db import connections, router

from django_idempotency.models import IdempotencyKey

__all__ = ["check_database", "check_engine"]

_TIMEOUTS = {
    "idle_in_transaction_session_timeout": (
        "a worker that hangs keeps its key locked for ever",
        "W002",
    ),
    "client_connection_check_interval": (
        "a worker killed during a long statement keeps its key locked until that ends",
        "W003",
    ),
}


def check_engine(**kwargs: Any) -> list[CheckMessage]:
    """E003: no row locks. E004: SQLite without IMMEDIATE. E005: autocommit off."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if connection.vendor == "sqlite":
        if options.get("transaction_mode") != "IMMEDIATE":
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
    """W002, W003: PostgreSQL time-outs that free the key of a dead worker. E003: too old."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    if alias not in (databases or ()):
        return []
    try:
        if connection.vendor == "postgresql":
            return list(_timeouts(connection))
        lacks = connection.vendor == "mysql" and not (
            connection.features.has_select_for_update_skip_locked
        )
    except DatabaseError:
        return []  # not there: the first request will say so with 503
    if not lacks:
        return []
    return [
        checks.Error(
            f"DATABASES[{alias!r}] is too old to skip locked rows.",
            hint="Use MySQL 8.0.1, MariaDB 10.6 or newer.",
            id="django_idempotency.E003",
        )
    ]


def _timeouts(connection: Any) -> Iterator[CheckMessage]:
    with connection.cursor() as cursor:
        for name, (danger, number) in _TIMEOUTS.items():
            cursor.execute("SELECT setting FROM pg_settings WHERE name = %s", [name])
            row = cursor.fetchone()
            if row is None or row[0] != "0":
                continue
            yield checks.Warning(
                f"PostgreSQL's {name} is off: {danger}.",
                hint=f'Set it, for example OPTIONS = {{"options": "-c {name}=60000"}} '
                "(milliseconds).",
                id=f"django_idempotency.{number}",
            )
