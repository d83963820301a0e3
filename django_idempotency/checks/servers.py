"""What one kind of database is asked, and told, with a connection open."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

__all__ = ["mysql", "postgresql", "sqlite"]

# What PostgreSQL is asked, with what to set it to and what happens where it is off.
_TIMEOUTS = {
    "idle_in_transaction_session_timeout": (
        "60s",
        "a worker that hangs keeps its key locked for ever",
        "W002",
    ),
    "client_connection_check_interval": (
        "1s",
        "a worker killed during a long statement keeps its key locked until that ends",
        "W003",
    ),
}
_LONG = 3600  # seconds; MySQL's own wait_timeout is eight hours
# A list of variables, to which another may be added.
_EXTENSIBLE = re.compile(r"\s*SET\s+(?!.*\b(TRANSACTION|ROLE|PASSWORD|STATEMENT)\b)[^;]+", re.I)
_PATIENT = 5  # seconds; its innodb_lock_wait_timeout is 50


def postgresql(connection: Any) -> Iterator[CheckMessage]:
    """W002, W003: the time-outs that free the key of a worker that is gone."""
    off = [name for name in _TIMEOUTS if _setting(connection, name) == "0"]
    options = str(connection.settings_dict["OPTIONS"].get("options", ""))
    for name in off:  # what is there already stays, and one line sets all that is missing
        options = re.sub(rf"(-c\s*|--){name}=\S*", "", options)
        options += f" -c {name}={_TIMEOUTS[name][0]}"
    for name in off:
        _, danger, number = _TIMEOUTS[name]
        yield _warning(
            f"PostgreSQL's {name} is off: {danger}.",
            f'Set "OPTIONS": {{"options": "{" ".join(options.split())}"}} in '
            f"DATABASES[{connection.alias!r}], or the same by ALTER ROLE behind a pooler that "
            "takes no options.",
            number,
        )


def _setting(connection: Any, name: str) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = %s", [name])
        row = cursor.fetchone()
    return None if row is None else str(row[0])


def sqlite(connection: Any) -> Iterator[CheckMessage]:
    """W004: one writer at a time."""
    seconds = connection.settings_dict["OPTIONS"].get("timeout", 5)  # of Python's sqlite3
    yield _weaker(
        "SQLite has one writer at a time: requests with a key run one after another, and a "
        "duplicate in flight is not refused but waits for the first. Who waits longer than "
        f"{seconds} s (OPTIONS['timeout']) gets 503.",
        "Use PostgreSQL where requests must run side by side.",
        "W004",
    )


def mysql(connection: Any) -> Iterator[CheckMessage]:
    """E003: too old. W005: what commits by itself. W006, W009: time-outs that are too long."""
    if not connection.features.has_select_for_update_skip_locked:
        yield checks.Error(
            f"DATABASES[{connection.alias!r}] is too old to skip locked rows.",
            hint="Use MySQL 8.0.1, MariaDB 10.6 or newer.",
            id="django_idempotency.E003",
        )
        return
    name = "MariaDB" if connection.mysql_is_mariadb else "MySQL"
    yield _weaker(
        f"{name} commits by itself before statements such as CREATE, ALTER and TRUNCATE TABLE: a "
        "view that runs one loses its key's lock there, and what it wrote before stays when it "
        "raises. Tables that are not InnoDB are never rolled back. And a worker killed during a "
        "long statement keeps its key locked until that ends.",
        "Keep such statements and tables out of protected views, or use PostgreSQL.",
        "W005",
    )
    yield from _time_outs(connection, name)


def _time_outs(connection: Any, name: str) -> Iterator[CheckMessage]:
    idle = "idle_transaction_timeout" if connection.mysql_is_mariadb else "wait_timeout"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT @@{idle}, @@wait_timeout, @@innodb_lock_wait_timeout")
        chosen, wait, patience = cursor.fetchone()
    hangs = wait > _LONG and not 0 < chosen <= _LONG
    # MariaDB bounds the wait of a single statement, and the claim does.
    waits = patience > _PATIENT and not connection.mysql_is_mariadb
    # As for PostgreSQL: one line sets all that is missing.
    missing = ["SESSION innodb_lock_wait_timeout = 1"] * waits + [f"SESSION {idle} = 60"] * hangs
    cure = _init_command(connection, ", ".join(missing))
    if hangs and not connection.mysql_is_mariadb:
        cure += " Set CONN_HEALTH_CHECKS to True there, too, if connections are kept."
    if hangs:
        yield _warning(
            f"{name} ends the session of a worker that hangs after {wait} s (wait_timeout), and "
            "keeps its key locked for so long.",
            cure,
            "W006",
        )
    if waits:
        yield _warning(
            "MySQL cannot bound the wait of a single statement: a duplicate that comes in the same "
            "moment as the first request is not refused, but waits until that has finished, for "
            f"at most {patience} s (innodb_lock_wait_timeout).",
            f"{cure} It bounds the waits of your own statements, too.",
            "W009",
        )


def _init_command(connection: Any, settings: str) -> str:
    """How to have a session set this, besides what it sets already."""
    before = connection.settings_dict["OPTIONS"].get("init_command")
    if before and not _EXTENSIBLE.fullmatch(before):
        return (
            f'Let "init_command" in the OPTIONS of DATABASES[{connection.alias!r}] SET {settings}, '
            "besides what it does, or set the same on the server."
        )
    command = json.dumps(f"{before}, {settings}" if before else f"SET {settings}")
    return f'Set "OPTIONS": {{"init_command": {command}}} in DATABASES[{connection.alias!r}].'


def _weaker(message: str, cure: str, number: str) -> CheckMessage:
    silence = f'SILENCED_SYSTEM_CHECKS = ["django_idempotency.{number}"]'
    return _warning(message, f"{cure} If this will do, silence the warning: {silence}.", number)


def _warning(message: str, hint: str, number: str) -> CheckMessage:
    return checks.Warning(message, hint=hint, id=f"django_idempotency.{number}")
