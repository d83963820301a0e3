"""The statements of one database, their text made once. Only ``rows`` runs these.

PostgreSQL gets the claim and the audit in one statement each, neither waiting for the disk:
``set_config(…, true)`` inside the statement ends with it, so nothing leaks into a pooled
connection. If a crash loses a claim, the retry inserts it again; the commit of the request
itself is flushed as usual. It is called in the WHERE clause of the insert, which is evaluated
before the row is made; as a CTE it cost 20 µs more.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections

from .statements import CLAIMED, COUNTED, EVENT, Statements, slots

if TYPE_CHECKING:
    from datetime import timedelta

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["statements_for"]

# How long a claim may wait for another that is inserting the same key and has not committed.
# What takes longer than this is answered 409 and retried by the client.
LOCK_TIMEOUT = "100ms"
LOCK_SECONDS = 1  # the same on MariaDB; not 0, or any lock in the way would be a refusal

_UNFLUSHED = "set_config('synchronous_commit', 'off', true) = 'off'"


class MySQLStatements(Statements):
    """MySQL and MariaDB: the same steps, with the locks of InnoDB."""

    def span(self, duration: timedelta) -> Any:
        return duration // type(duration)(microseconds=1)

    def _clock(self) -> tuple[str, str]:
        now = "UTC_TIMESTAMP(6)" if settings.USE_TZ else "LOCALTIMESTAMP(6)"
        return now, f"{now} + INTERVAL %s MICROSECOND"

    def _since_1970(self, moment: str) -> str:
        return f"UNIX_TIMESTAMP({moment})"

    def _claim(self, connection: BaseDatabaseWrapper) -> str:
        """Insert the key, or fail with 1062 (it is there) or 1205 (its request is running).

        Not INSERT IGNORE, which would also cut off what is too long and skip what breaks a
        constraint. An insert waits for the request that holds the key it collides with:
        MariaDB can bound that for one statement, by whole seconds, MySQL for sessions only.
        """
        bound = f"SET STATEMENT innodb_lock_wait_timeout={LOCK_SECONDS} FOR "
        return (
            f"{bound if connection.mysql_is_mariadb else ''}"  # type: ignore[attr-defined]
            f"INSERT INTO {self.key} ({self._names(CLAIMED)}) "
            f"VALUES ({slots(CLAIMED, 2)}, {self.now}, {self.later})"
        )

    def _upsert(self, kind: str) -> str:
        """Spelled out, because MariaDB and new MySQLs name the new row differently."""
        count, replayed = self.quote(COUNTED[kind]), self.quote("last_replayed_at")
        stamp = f", {replayed} = {self.now}" if kind == "replayed" else ""
        return f"ON DUPLICATE KEY UPDATE {count} = {count} + 1{stamp}"


class PostgresStatements(Statements):
    """One round trip where others take two: claim and read, lock and count, count and tell."""

    compound = True
    relaxed = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        # A delete excludes every lock; a request and a take-over leave room for this one.
        self.being_deleted = f"SELECT 1 {self.by_id} AND {_UNFLUSHED} FOR KEY SHARE SKIP LOCKED"

    def span(self, duration: timedelta) -> Any:
        return duration

    def _clock(self) -> tuple[str, str]:
        return "CLOCK_TIMESTAMP()", "CLOCK_TIMESTAMP() + %s"

    def _expiry(self) -> str:
        """A number: Django loads times in Python, for 20 µs each."""
        return f"EXTRACT(EPOCH FROM {self.quote('expires_at')})::double precision"

    def _claim(self, connection: BaseDatabaseWrapper) -> str:
        """Read the key or insert it; no row = it was not there.

        A key that is found is not inserted: the attempt would wait for a twin that has stored
        its response and not yet committed, and cost a replay 40 µs.
        """
        return (
            f"WITH found AS (SELECT {self.columns} {self.by_id}), "
            f"claimed AS (INSERT INTO {self.key} ({self._names(CLAIMED)}) "
            f"SELECT {slots(CLAIMED, 2)}, {self.now}, {self.later} "
            f"WHERE NOT EXISTS (SELECT 1 FROM found) "
            f"AND {_UNFLUSHED} AND set_config('lock_timeout', '{LOCK_TIMEOUT}', true) <> '' "
            f"ON CONFLICT DO NOTHING) SELECT * FROM found"
        )

    def _as_seen(self, *, expired: bool = False) -> str:
        id_ = self.quote("id")
        seen = super()._as_seen(expired=expired)
        free = f"SELECT {id_} FROM {self.key} WHERE {seen} FOR NO KEY UPDATE SKIP LOCKED"
        return f"{id_} = ({free}) AND {_UNFLUSHED}"

    def _take_over(self, *, expired: bool) -> str:
        taken = f"{super()._take_over(expired=expired)} RETURNING {self.quote('id')}"
        if not expired:
            return taken
        return (
            f"WITH taken AS ({taken}), forgotten AS (DELETE FROM {self.tallies} "
            f"WHERE {self.quote('key_id')} = (SELECT {self.quote('id')} FROM taken)) "
            f"SELECT {self.quote('id')} FROM taken"
        )

    def _tally(self, kind: str) -> str:
        columns, values = self._counted(kind, never="NULL::timestamptz")
        return (
            f"WITH counted AS (INSERT INTO {self.tallies} ({columns}) "
            f"SELECT %s, {values} WHERE {_UNFLUSHED} {self._upsert(kind)} "
            f"RETURNING {self.quote(COUNTED[kind])} AS times) "
            f"INSERT INTO {self.events} ({self._names(EVENT)}) "
            f"SELECT {slots(EVENT, 1)}, {self.now} FROM counted WHERE times <= %s"
        )


_KINDS = {"postgresql": PostgresStatements, "mysql": MySQLStatements}


@functools.cache
def statements_for(alias: str) -> Statements:
    """The texts for one database."""
    connection = connections[alias]
    return _KINDS.get(connection.vendor, Statements)(connection)
