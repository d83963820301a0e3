"""The text of every statement on the hot path, as SQLite runs it: built from Django's pieces.

Raw SQL because the ORM costs 250-460 µs of CPU a statement here and a cursor 80-105 µs; from
Django's own pieces (quoting, conflict and lock clauses), so that it stays portable. What other
databases need in its place is in ``sql``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from .models import IdempotencyKey, KeyEvent, KeyTally

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["CLAIMED", "COUNTED", "EVENT", "Statements", "slots"]

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


def slots(columns: tuple[str, ...], computed: int) -> str:
    """A placeholder for each column but the last ``computed``."""
    return ", ".join(["%s"] * (len(columns) - computed))


class Statements:
    """Portable texts, as SQLite runs them."""

    relaxed = ""  # lets a transaction see what is committed while it runs, see KeyRows.count()
    being_deleted: str | None = None  # no row = upkeep is deleting the key; None = cannot be told
    compound = False  # whether one statement does the work of two, see PostgresStatements

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.vendor = connection.vendor
        self.quote = connection.ops.quote_name
        self.key, self.tallies, self.events = (
            self.quote(model._meta.db_table) for model in (IdempotencyKey, KeyTally, KeyEvent)
        )
        self.now, self.later = self._clock()
        self.columns = (
            f"{self._names(('scope', 'key', 'fingerprint', 'attempts', 'seed'))}, "
            f"{self._expiry()}, {self.quote('expires_at')} <= {self.now}, "
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

    def _expiry(self) -> str:
        """When a key expires, as ``rows`` takes it: a time, its text, or seconds since 1970."""
        expires = self.quote("expires_at")
        # Local times are without a zone, which the database knows.
        return expires if settings.USE_TZ else self._since_1970(expires)

    def _since_1970(self, moment: str) -> str:
        return f"CAST(STRFTIME('%%s', {moment}, 'utc') AS REAL)"

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
            f"VALUES ({slots(CLAIMED, 2)}, {self.now}, {self.later}) ON CONFLICT DO NOTHING"
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
            f"SELECT {slots(EVENT, 1)}, {self.now} FROM {self.tallies} "
            f"WHERE {self.quote('key_id')} = %s AND {self.quote(COUNTED[kind])} <= %s"
        )
