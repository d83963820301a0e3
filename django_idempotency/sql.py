"""The text of every statement on the hot path, made once per database.

Raw SQL because the ORM costs 250-460 µs of CPU a statement here and a cursor 80-105 µs; built
from Django's own pieces (quoting, conflict and lock clauses), so that it stays portable. Only
``rows`` runs these.

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

from .models import IdempotencyKey, KeyEvent, KeyTally

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Statements", "statements_for"]

# How long a claim may wait for another that is inserting the same key and has not committed.
# What takes longer than this is answered 409 and retried by the client.
LOCK_TIMEOUT = "100ms"
LOCK_SECONDS = 1  # the same on MariaDB; not 0, or any lock in the way would be a refusal

_UNFLUSHED = "set_config('synchronous_commit', 'off', true) = 'off'"

CLAIMED = (
    *("id", "scope", "key", "fingerprint", "method", "path", "route", "request_record"),
    *("remote_addr", "user_agent", "request_id", "seed", "attempts", "created_at", "expires_at"),
)
TAKEN_OVER = (
    *("fingerprint", "method", "path", "route", "request_record", "remote_addr"),
    *("user_agent", "request_id", "seed", "attempts"),
)
STORED = ("response_status", "response_headers", "response_body", "duration_ms")
EVENT = (
    *("key_id", "kind", "status", "duration_ms", "method", "path", "remote_addr"),
    *("user_agent", "request_id", "differences", "request_record", "at"),
)
COUNTED = {
    "replayed": "replay_count",
    "conflict": "conflict_count",
    "in_flight": "in_flight_count",
    "failed": "failure_count",
    "given_way": "given_way_count",
}


def _slots(columns: tuple[str, ...], computed: int) -> str:
    """A placeholder for each column but the last ``computed``."""
    return ", ".join(["%s"] * (len(columns) - computed))


class Statements:
    """Portable texts, as SQLite runs them."""

    compound = False  # whether one statement does the work of two, see PostgresStatements

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.vendor = connection.vendor
        self.quote = connection.ops.quote_name
        self.key, self.tallies, self.events = (
            self.quote(model._meta.db_table) for model in (IdempotencyKey, KeyTally, KeyEvent)
        )
        self.now, self.later = self._clock()
        self.columns = (
            f"{self._names(('scope', 'key', 'fingerprint', 'attempts', 'seed', 'expires_at'))}, "
            f"{self.quote('expires_at')} <= {self.now}, "
            f"{self._names((*STORED[:3], 'request_record'))}"
        )
        self.by_id = f"FROM {self.key} WHERE {self.quote('id')} = %s"
        self.claim = self._claim(connection)
        self.look = f"SELECT {self.columns} {self.by_id}"
        self.lock = f"{self.look} {self._lock_clause(connection)}".rstrip()
        self.take_over = {expired: self._take_over(expired=expired) for expired in (False, True)}
        self.store, self.store_late = self._store(), self._store(f", {self._kept_anew()}")
        self.begin_again = self._begin_again()
        self.tally = {kind: self._tally(kind) for kind in COUNTED}
        self.event = {kind: self._event(kind) for kind in COUNTED}
        # Counted up to a limit: a scope may have millions.
        self.live = (
            f"SELECT COUNT(*) FROM (SELECT 1 FROM {self.key} WHERE {self.quote('scope')} = %s "
            f"AND {self.quote('expires_at')} > {self.now} LIMIT %s) AS live"
        )
        self.give_back = f"DELETE {self.by_id} AND {self.quote('completed_at')} IS NULL"
        self.accounted = (
            f"SELECT {self.quote('failure_count')} + {self.quote('given_way_count')} "
            f"FROM {self.tallies} WHERE {self.quote('key_id')} = %s"
        )
        self.forget_tally = f"DELETE FROM {self.tallies} WHERE {self.quote('key_id')} = %s"

    def span(self, duration: timedelta) -> Any:
        """The parameter that :attr:`later` adds to the present."""
        return f"+{duration.total_seconds():.3f} seconds"

    def _clock(self) -> tuple[str, str]:
        """The present, and the present plus a parameter, in the way Django stores times."""
        zone = "" if settings.USE_TZ else ", 'localtime'"
        moment = f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now'{zone}"
        return f"{moment})", f"{moment}, %s)"

    def _names(self, columns: Iterable[str]) -> str:
        return ", ".join(self.quote(column) for column in columns)

    def _assignments(self, columns: Iterable[str], value: str) -> str:
        return ", ".join(f"{self.quote(column)} = {value}" for column in columns)

    def _claim(self, connection: BaseDatabaseWrapper) -> str:
        """Insert the key unless it is there; one affected row = it is ours.

        Not INSERT OR IGNORE, which would also skip what breaks a constraint.
        """
        return (
            f"INSERT INTO {self.key} ({self._names(CLAIMED)}) "
            f"VALUES ({_slots(CLAIMED, 2)}, {self.now}, {self.later}) ON CONFLICT DO NOTHING"
        )

    def _lock_clause(self, connection: BaseDatabaseWrapper) -> str:
        """Lock the row that is read; no row = someone else holds it.

        SKIP LOCKED answers at once and, unlike NOWAIT, without an error. NO KEY: an insert
        that points at the row does not wait for the request that holds it. SQLite needs no
        clause: its write transaction excludes every other.
        """
        features = connection.features
        if not features.has_select_for_update:
            return ""
        return connection.ops.for_update_sql(
            skip_locked=features.has_select_for_update_skip_locked,
            no_key=features.has_select_for_no_key_update,
        )

    def _take_over(self, *, expired: bool) -> str:
        """Give a free key to this request, unless it is no longer as it was seen."""
        cleared = ("completed_at", *STORED)
        renewed = f"{self.quote('created_at')} = {self.now}, " if expired else ""
        return (
            f"UPDATE {self.key} SET {self._assignments(TAKEN_OVER, '%s')}, "
            f"{self._assignments(cleared, 'NULL')}, {renewed}"
            f"{self.quote('expires_at')} = {self.later} WHERE {self._as_seen(expired=expired)}"
        )

    def _begin_again(self) -> str:
        """Count another execution, unless the key is finished or another began it."""
        attempts = self.quote("attempts")
        return (
            f"UPDATE {self.key} SET {attempts} = {attempts} + 1, {self._kept_anew()} "
            f"WHERE {self._as_seen()}"
        )

    def _as_seen(self, *, expired: bool = False) -> str:
        """Nobody was given the key since: the seed tells, and the number of executions."""
        id_, attempts, seed = map(self.quote, ("id", "attempts", "seed"))
        finished = "IS NOT NULL" if expired else "IS NULL"
        return (
            f"{id_} = %s AND {attempts} = %s AND {seed} = %s "
            f"AND {self.quote('completed_at')} {finished}"
        )

    def _kept_anew(self) -> str:
        """Give a key that has lived for long a whole retention, so that it can replay."""
        expires = self.quote("expires_at")
        return (
            f"{expires} = CASE WHEN {expires} < {self.later} THEN {self.later} ELSE {expires} END"
        )

    def _store(self, also: str = "") -> str:
        """Store a response.

        The expiry is left as it is, if it can be: an indexed column that does not change
        keeps the update within its page, and the two spans took 35 µs.
        """
        completed = self.quote("completed_at")
        return (
            f"UPDATE {self.key} SET {self._assignments(STORED, '%s')}, {completed} = {self.now}"
            f"{also} WHERE {self.quote('id')} = %s AND {completed} IS NULL"
        )

    def _counted(self, kind: str, never: str = "NULL") -> tuple[str, str]:
        """Columns and values of a tally that has seen one use of ``kind``."""
        values = ["1" if kind == counted else "0" for counted in COUNTED]
        values.append(self.now if kind == "replayed" else never)
        return self._names(("key_id", *COUNTED.values(), "last_replayed_at")), ", ".join(values)

    def _upsert(self, kind: str) -> str:
        """Add a tally to the one that is there."""
        own, new = self.tallies + ".{0}", "EXCLUDED.{0}"
        sums = [f"{{0}} = {own} + {new}".format(self.quote(name)) for name in COUNTED.values()]
        sums.append(f"{{0}} = COALESCE({new}, {own})".format(self.quote("last_replayed_at")))
        return f"ON CONFLICT ({self.quote('key_id')}) DO UPDATE SET {', '.join(sums)}"

    def _tally(self, kind: str) -> str:
        columns, values = self._counted(kind)
        return f"INSERT INTO {self.tallies} ({columns}) VALUES (%s, {values}) {self._upsert(kind)}"

    def _event(self, kind: str) -> str:
        """Add an event unless the key has enough of its kind."""
        return (
            f"INSERT INTO {self.events} ({self._names(EVENT)}) "
            f"SELECT {_slots(EVENT, 1)}, {self.now} FROM {self.tallies} "
            f"WHERE {self.quote('key_id')} = %s AND {self.quote(COUNTED[kind])} <= %s"
        )


class MySQLStatements(Statements):
    """MySQL and MariaDB: the same steps, with the locks of InnoDB."""

    def span(self, duration: timedelta) -> Any:
        return duration // type(duration)(microseconds=1)

    def _clock(self) -> tuple[str, str]:
        now = "UTC_TIMESTAMP(6)" if settings.USE_TZ else "LOCALTIMESTAMP(6)"
        return now, f"{now} + INTERVAL %s MICROSECOND"

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
            f"VALUES ({_slots(CLAIMED, 2)}, {self.now}, {self.later})"
        )

    def _upsert(self, kind: str) -> str:
        """Spelled out, because MariaDB and new MySQLs name the new row differently."""
        count, replayed = self.quote(COUNTED[kind]), self.quote("last_replayed_at")
        stamp = f", {replayed} = {self.now}" if kind == "replayed" else ""
        return f"ON DUPLICATE KEY UPDATE {count} = {count} + 1{stamp}"


class PostgresStatements(Statements):
    """One round trip where others take two: claim and read, lock and count, count and tell."""

    compound = True

    def span(self, duration: timedelta) -> Any:
        return duration

    def _clock(self) -> tuple[str, str]:
        return "CLOCK_TIMESTAMP()", "CLOCK_TIMESTAMP() + %s"

    def _claim(self, connection: BaseDatabaseWrapper) -> str:
        """Read the key or insert it; no row = it was not there.

        A key that is found is not inserted: the attempt would wait for a twin that has stored
        its response and not yet committed, and cost a replay 40 µs.
        """
        return (
            f"WITH found AS (SELECT {self.columns} {self.by_id}), "
            f"claimed AS (INSERT INTO {self.key} ({self._names(CLAIMED)}) "
            f"SELECT {_slots(CLAIMED, 2)}, {self.now}, {self.later} "
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
            f"SELECT {_slots(EVENT, 1)}, {self.now} FROM counted WHERE times <= %s"
        )


_KINDS = {"postgresql": PostgresStatements, "mysql": MySQLStatements}


@functools.cache
def statements_for(alias: str) -> Statements:
    """The texts for one database."""
    connection = connections[alias]
    return _KINDS.get(connection.vendor, Statements)(connection)
