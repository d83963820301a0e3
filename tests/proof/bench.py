"""What a scenario stands on: the proxy before the database, and a direct look at the tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.test import override_settings

from tests.proof.fault_proxy import FaultProxy

KEYS, TALLIES, EVENTS, ORDERS = (
    "django_idempotency_idempotencykey",
    "django_idempotency_keytally",
    "django_idempotency_keyevent",
    "orders_order",
)
LEVELS = {
    "RC": IsolationLevel.READ_COMMITTED,
    "RR": IsolationLevel.REPEATABLE_READ,
    "SER": IsolationLevel.SERIALIZABLE,
}
# The level of each statement, claims and counts among them; above it is that of transactions.
OF_ALL = {"RR-all": "repeatable\\ read", "SER-all": "serializable"}


@dataclass(frozen=True, slots=True)
class Site:
    """How a site is set up."""

    atomic: bool = False  # ATOMIC_REQUESTS
    level: str = "RC"
    route: str = "direct"  # or "pooled": the proxy stands before PgBouncer
    kept: bool = False  # one worker and one persistent connection make all attempts
    storing: tuple[str, ...] = ()  # STORE_RAISED_4XX, STORE_5XX, or both

    def __str__(self) -> str:
        parts = ["AR" if self.atomic else "", self.level, self.route, "kept" if self.kept else ""]
        return "-".join(filter(None, (*parts, *self.storing)))


@dataclass
class Verdict:
    """The counts of one enumeration; all of them are summed up at the end of the run."""

    scenarios: int = 0
    fired: int = 0
    violations: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds from the fault until the key worked again

    def __iadd__(self, other: Verdict) -> Verdict:
        self.scenarios += other.scenarios
        self.fired += other.fired
        self.violations += other.violations
        self.slowest = max(self.slowest, other.slowest)
        return self


class Bench:
    """The proxy, and a connection around it that sees only what is committed."""

    def __init__(self, proxy: FaultProxy, direct: dict[str, Any]) -> None:
        self.proxy = proxy
        self._direct = direct
        self._connection = connect(direct)

    def another(self) -> psycopg.Connection[Any]:
        return connect(self._direct)

    def ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def effects(self, sku: str) -> list[int]:
        """The orders that were really placed."""
        rows = self.ask(f"SELECT id FROM {ORDERS} WHERE sku = %s ORDER BY id", sku)
        return [row[0] for row in rows]

    def stored(self, key: str) -> tuple[int, str] | None:
        """Status and body that a key stands for; None = unfinished or not there."""
        rows = self.ask(
            f"SELECT response_status, response_body FROM {KEYS} "
            "WHERE key = %s AND completed_at IS NOT NULL",
            key,
        )
        return (rows[0][0], bytes(rows[0][1]).decode()) if rows else None

    def close(self) -> None:
        self._connection.close()


def connect(entry: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=entry["HOST"],
        port=entry["PORT"] or None,
        user=entry["USER"] or None,
        password=entry["PASSWORD"] or None,
        dbname=entry["NAME"],
        autocommit=True,
    )


def _options(usual: dict[str, Any], level: str) -> dict[str, Any]:
    if level in LEVELS:
        return {**usual, "isolation_level": LEVELS[level]}
    started = f"{usual.get('options', '')} -c default_transaction_isolation={OF_ALL[level]}"
    return {**usual, "options": started}


@contextmanager
def bench(site: Site, pooler: dict[str, Any] | None = None) -> Iterator[Bench]:
    """Until the end, Django's new connections go through a proxy, and the site is as asked."""
    entry = connections.settings["default"]
    connections.close_all()
    direct = dict(entry)
    upstream = {**direct, **(pooler or {})} if site.route == "pooled" else direct
    proxy = FaultProxy(upstream)
    changes = {
        "HOST": "127.0.0.1",
        "PORT": proxy.port,
        "ATOMIC_REQUESTS": site.atomic,
        "CONN_MAX_AGE": None if site.kept else 0,
        "OPTIONS": _options(entry.get("OPTIONS", {}), site.level),
    }
    stand = Bench(proxy, direct)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            override_settings(IDEMPOTENCY=dict.fromkeys(site.storing, True)),
        ):
            for name, value in changes.items():
                patch.setitem(entry, name, value)
            yield stand
            left = leftovers(stand)
        assert not left, left
    finally:
        connections.close_all()
        proxy.close()
        stand.close()


def leftovers(stand: Bench, patience: float = 5.0) -> list[tuple[Any, ...]]:
    """Sessions that stand idle in a transaction after everything has ended."""
    deadline = time.monotonic() + patience
    while True:
        rows = stand.ask(
            "SELECT pid, state, query FROM pg_stat_activity WHERE state LIKE 'idle in trans%%' "
            "AND datname = current_database()"
        )
        if not rows or time.monotonic() > deadline:
            return rows
        time.sleep(0.05)
