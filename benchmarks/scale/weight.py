"""How many bytes a key takes: table, each index, and the write-ahead log."""

from __future__ import annotations

import time
from typing import Any

from django.db import connections

from benchmarks.report import say
from benchmarks.scale.requests import Requests, send
from benchmarks.scale.shards import alias_of, on
from django_idempotency.models import IdempotencyKey

TABLE = IdempotencyKey._meta.db_table


def ask(alias: str, sql: str, *parameters: Any) -> Any:
    """The first column of the first row."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def sizes_of(alias: str) -> dict[str, int]:
    """Bytes of the key table and of its indexes, by what they are of."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute "
            "WHERE attrelid = indexrelid), pg_relation_size(indexrelid) "
            "FROM pg_index WHERE indrelid = %s::regclass ORDER BY 1",
            [TABLE],
        )
        indexes = {f"index on {columns}": size for columns, size in cursor.fetchall()}
    heap = ask(alias, "SELECT pg_table_size(%s::regclass)", TABLE)
    return {"table": heap, **indexes}


def compare(sizes: list[int]) -> None:
    """Bytes a key at each size, right after loading."""
    found = {rows: sizes_of(alias_of(rows)) for rows in sizes}
    say("", f"{'bytes a key':30}" + "".join(f"{rows:>12,}" for rows in sizes))
    for name in found[sizes[0]]:
        say(f"{name:30}" + "".join(f"{found[rows][name] / rows:12.0f}" for rows in sizes))
    say(f"{'all':30}" + "".join(f"{sum(found[rows].values()) / rows:12.0f}" for rows in sizes))


def log(sizes: list[int], *, requests: int) -> None:
    """Bytes of log a first execution, those of the view itself (some 450) included.

    After a checkpoint the first change of each page logs the whole page. A small table has few
    pages, and soon has logged them all; the keys of a large one meet a new page nearly each
    time, for as many requests as its indexes have pages.
    """
    say("", f"{'log bytes a first execution':30}" + "".join(f"{rows:>12,}" for rows in sizes))
    for name, pages, compressed in (
        ("after a checkpoint", "on", "off"),
        ("the same, wal_compression on", "on", "on"),
        ("without images of pages", "off", "off"),
    ):
        cells = "".join(f"{_logged(rows, requests, pages, compressed):12,.0f}" for rows in sizes)
        say(f"{name:30}{cells}")
    _write_pages(alias_of(sizes[0]), "on")


def _logged(rows: int, count: int, pages: str, compressed: str) -> float:
    alias, requests = alias_of(rows), Requests(rows, seed=2)
    _write_pages(alias, pages)
    run(alias, f"SET wal_compression = {compressed}")
    run(alias, "CHECKPOINT")
    before = ask(alias, "SELECT pg_current_wal_insert_lsn()")
    with on(alias):
        for _ in range(count):
            send(requests.first())
    written = ask(alias, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before)
    run(alias, "RESET wal_compression")
    return float(written) / count


def _write_pages(alias: str, value: str) -> None:
    """Switch ``full_page_writes``; the checkpoint that follows makes it count."""
    run(alias, f"ALTER SYSTEM SET full_page_writes = {value}")
    run(alias, "SELECT pg_reload_conf()")
    while ask(alias, "SHOW full_page_writes") != value:
        time.sleep(0.01)


def run(alias: str, sql: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
