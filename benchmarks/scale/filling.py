"""Fills a database with keys as the engine writes them, quickly.

The engine executes one request; every other key is a copy of that row with a scope, a key, an
id, a seed and times of its own. So any of them can be replayed by sending that request again.
The rows arrive in the order of their times into the indexes that the migrations make, as in
life: an index that is built afterwards would be smaller.
"""

from __future__ import annotations

import time

from django.db import connections

from benchmarks.digest import ID, RAW
from benchmarks.models import Account
from benchmarks.report import say
from benchmarks.scale.requests import ACCOUNTS, STEP, Requests, key_of, send, users_of
from benchmarks.scale.shards import alias_of, on
from django_idempotency.models import IdempotencyKey

BATCH = 100_000  # rows a statement
TOLD = 1_000_000  # rows between two lines
SPAN = "30 hours"  # with a retention of 24 the oldest fifth is expired: a purge is late
USED_AGAIN = 13 / 256  # this share of the keys was replayed once

COLUMNS = [field.column for field in IdempotencyKey._meta.concrete_fields]
MADE = {
    "id": ID,
    "scope": "made.scope",
    "key": "made.key",
    "route": "'payments/'",  # the benchmark calls its view, so the engine saw none
    "seed": "gen_random_uuid()",
    "created_at": "at",
    "expires_at": "at + interval '24 hours'",
    "completed_at": "at + interval '40 milliseconds'",
}
ROWS = f"""
WITH added AS (
  INSERT INTO django_idempotency_idempotencykey ({", ".join(COLUMNS)})
  SELECT {", ".join(MADE.get(column, f"model.{column}") for column in COLUMNS)}
  FROM django_idempotency_idempotencykey AS model, (SELECT * FROM (
    SELECT now() - interval '{SPAN}' * (%(rows)s - n) / %(rows)s AS at,
      'user:' || (1 + n * {STEP} %% %(users)s) AS scope, md5('scale-' || n)::uuid::text AS key
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS named
    CROSS JOIN LATERAL ({RAW}) AS digests) AS made
  WHERE model.key = %(model)s RETURNING *),
used AS (SELECT * FROM added WHERE get_byte(uuid_send(id), 0) < 256 * {USED_AGAIN}),
told AS (
  INSERT INTO django_idempotency_keyevent (key_id, kind, at, status, duration_ms, method, path,
    remote_addr, user_agent, request_id, differences, request_record)
  SELECT id, 'replayed', completed_at, 201, 3, method, path, remote_addr, user_agent, request_id,
    '', '' FROM used)
INSERT INTO django_idempotency_keytally (key_id, replay_count, conflict_count, in_flight_count,
  failure_count, given_way_count, last_replayed_at)
SELECT id, 1, 0, 0, 0, 0, completed_at FROM used"""  # noqa: S608 -- our own names


def fill(rows: int) -> None:
    """Make ``rows`` keys; the last of them is the one that the engine has made."""
    alias, began = alias_of(rows), time.perf_counter()
    with on(alias):
        Account.objects.bulk_create([Account(pk=n) for n in range(1, ACCOUNTS + 1)])
        send(Requests(rows).made(1 + rows * STEP % users_of(rows), key_of(rows), 1))
    add(rows, first=1, last=rows - 1)
    with connections[alias].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    say(f"{rows:12,} keys loaded in {time.perf_counter() - began:.0f} s")


def add(rows: int, *, first: int, last: int) -> None:
    """Copy the engine's key under the numbers from ``first`` to ``last``."""
    fixed = {"rows": rows, "users": users_of(rows), "model": key_of(rows)}
    with connections[alias_of(rows)].cursor() as cursor:
        for start in range(first, last + 1, BATCH):
            end = min(start + BATCH - 1, last)
            cursor.execute(ROWS, fixed | {"first": start, "last": end})
            if end % TOLD == 0 and end < last:
                say(f"{end:12,} …")
