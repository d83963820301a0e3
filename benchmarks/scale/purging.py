"""Purge while a storm of requests runs; what the storm feels, and what the space becomes."""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from django.db import connections

from benchmarks.models import Payment
from benchmarks.report import quantile, say
from benchmarks.scale import filling
from benchmarks.scale.requests import Requests, send
from benchmarks.scale.shards import alias_of, on
from benchmarks.scale.stopwatch import used
from benchmarks.scale.weight import ask, run, sizes_of
from django_idempotency import upkeep
from django_idempotency.models import IdempotencyKey

WORKERS = 4
BATCH = 1000  # keys a transaction, the command's default
WARMUP, ALONE, PURGING, OVER = range(4)  # what the storm meets
NAMES = {ALONE: "storm alone", PURGING: "storm and purge"}
REPLAYS = 3  # one request in so many is a retry


class Storm:
    """Processes that send requests as fast as they can until they are told to stop."""

    def __init__(self, rows: int) -> None:
        connections.close_all()  # a child must not inherit them
        context = multiprocessing.get_context("fork")
        self.state = context.Value("i", WARMUP)
        self.changed = time.perf_counter()
        self.lasted: dict[int, float] = defaultdict(float)
        self._lines, self._workers = [], []
        for number in range(WORKERS):
            mine, theirs = context.Pipe()
            worker = context.Process(target=_send_on, args=(rows, number, self.state, theirs))
            worker.start()
            theirs.close()  # the worker's: if it dies, reading from ours ends
            self._lines.append(mine)
            self._workers.append(worker)

    def enter(self, state: int) -> None:
        now = time.perf_counter()
        self.lasted[self.state.value] += now - self.changed
        self.changed, self.state.value = now, state

    def end(self) -> tuple[dict[int, list[float]], int]:
        """Stop it: (how long each request took, in ms, by what it met; first executions)."""
        self.enter(OVER)
        taken: dict[int, list[float]] = defaultdict(list)
        executed = 0
        for line in self._lines:
            found, firsts = line.recv()
            executed += firsts
            for state, values in found.items():
                taken[state] += values
        for worker in self._workers:
            worker.join()
            if worker.exitcode:
                msg = f"a worker of the storm ended with {worker.exitcode}"
                raise RuntimeError(msg)
        return taken, executed


def _send_on(rows: int, number: int, state: Any, line: Connection) -> None:
    requests, taken = Requests(rows, seed=100 + number), defaultdict(list)
    sent = executed = 0
    with on(alias_of(rows)):
        while (met := state.value) != OVER:
            replayed = sent % REPLAYS == REPLAYS - 1
            request = requests.again() if replayed else requests.first()
            began = time.perf_counter()
            send(request, replayed=replayed)
            taken[met].append((time.perf_counter() - began) * 1000)
            sent += 1
            executed += not replayed
    connections.close_all()
    line.send((dict(taken), executed))


def measure(rows: int, *, seconds: float, windows: int) -> None:
    """Purge the expired fifth of the keys, in turns with the storm and then alone."""
    alias = alias_of(rows)
    paid, updated = Payment.objects.using(alias).count(), _hot(alias)
    storm = Storm(rows)
    during, alone = Purge(), Purge()
    time.sleep(seconds / 2)  # the storm's connections and caches
    with on(alias):
        for _ in range(windows):
            storm.enter(ALONE)
            time.sleep(seconds)
            storm.enter(PURGING)
            during.run(alias, seconds)
        taken, executed = storm.end()
        alone.run(alias, None)
    say("", f"purge of {rows:,} keys in batches of {BATCH}, {WORKERS} processes of requests")
    for met, name in NAMES.items():
        say(
            f"{name:20}{len(taken[met]) / storm.lasted[met]:8,.0f} requests/s, median "
            f"{median(taken[met]):.1f} ms, 95 % {quantile(taken[met], 0.95):.1f}, "
            f"99 % {quantile(taken[met], 0.99):.1f}"
        )
    for name, found in (("during the storm", during), ("alone", alone)):
        if found.rates:
            say(f"purge {name}: {found}")
    if (payments := Payment.objects.using(alias).count() - paid) != executed:
        msg = f"{executed} first executions made {payments} payments"
        raise RuntimeError(msg)
    updates, hot = (now - then for now, then in zip(_hot(alias), updated, strict=True))
    say(f"of {updates:,} responses stored, {hot / updates:.0%} left the indexes alone (HOT)")
    _space(rows, deleted=(len(during.rates) + len(alone.rates)) * BATCH)


@dataclass(slots=True)
class Purge:
    """What the batches of a purge took."""

    rates: list[float] = field(default_factory=list)  # keys a second on the wall
    own: float = 0.0  # µs of this process
    server: float = 0.0  # µs of the server's process

    def run(self, alias: str, seconds: float | None) -> None:
        """Purge for so long, or to the end; count full batches."""
        began = time.perf_counter()
        while seconds is None or time.perf_counter() - began < seconds:
            batch, own, server = time.perf_counter(), time.process_time(), used(alias)
            if upkeep.purge(limit=BATCH) < BATCH:
                break
            self.rates.append(BATCH / (time.perf_counter() - batch))
            self.own += (time.process_time() - own) * 1e6
            self.server += used(alias) - server

    def __str__(self) -> str:
        keys = len(self.rates) * BATCH
        return (
            f"{keys:,} keys, median {median(self.rates):,.0f} keys/s, first ten batches "
            f"{median(self.rates[:10]):,.0f}, last ten {median(self.rates[-10:]):,.0f}; "
            f"CPU a key: server {self.server / keys:.0f} µs, this process {self.own / keys:.0f} µs"
        )


def _hot(alias: str) -> Any:
    """(updates of keys, those of them that left the indexes alone)."""
    ask(alias, "SELECT pg_stat_force_next_flush() IS NULL")
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s",
            [IdempotencyKey._meta.db_table],
        )
        return cursor.fetchone()


def _space(rows: int, *, deleted: int) -> None:
    """What the tables take after the purge, after VACUUM, and when as many keys have come."""
    alias = alias_of(rows)
    found = {"purged": sizes_of(alias)}
    log, began = ask(alias, "SELECT pg_current_wal_insert_lsn()"), time.perf_counter()
    run(alias, "VACUUM")
    took = time.perf_counter() - began
    written = ask(alias, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", log)
    found["vacuumed"] = sizes_of(alias)
    filling.add(rows, first=rows + 1, last=rows + deleted)
    found["refilled"] = sizes_of(alias)
    say(f"VACUUM of all tables: {took:.0f} s, {written / 2**20:,.0f} MB of log")
    say("", f"{'MB':30}" + "".join(f"{name:>12}" for name in found))
    for name in found["purged"]:
        say(f"{name:30}" + "".join(f"{sizes[name] / 2**20:12,.0f}" for sizes in found.values()))
