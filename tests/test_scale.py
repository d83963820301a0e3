"""What the benchmark of sizes and its documents rest on, and purges side by side."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from benchmarks import overhead
from benchmarks.digest import ID, RAW
from django_idempotency import upkeep
from django_idempotency.models import IdempotencyKey, KeyEvent
from django_idempotency.protocol import key_id
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30  # seconds
PURGES = 4


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize("pair", [("user:1", "k"), ("user:4711", "8e03978e-40d5-43e8-bc93")])
def test_ids_made_by_the_database_are_those_of_the_engine(pair: tuple[str, str]) -> None:
    """Otherwise the loaded keys would be found by no request."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {ID} FROM (VALUES (%s, %s)) AS named (scope, key) "  # noqa: S608 - constants
            f"CROSS JOIN LATERAL ({RAW}) AS digests",
            pair,
        )
        ((found,),) = cursor.fetchall()

    assert found == key_id(*pair)


@pytest.mark.row_locks
@pytest.mark.django_db(transaction=True)
def test_purges_at_once_share_the_work() -> None:
    """Each expired key is deleted and counted by one of them, with its events; none waits."""
    live = IdempotencyKeyFactory(completed=True)
    for gone in IdempotencyKeyFactory.create_batch(120, completed=True, expired=True):
        KeyEventFactory(key=gone)
    barrier = threading.Barrier(PURGES)

    def purge(number: int) -> int:
        try:
            barrier.wait(PATIENCE)
            return sum(iter(lambda: upkeep.purge(limit=5), 0))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(PURGES) as pool:
        deleted = list(pool.map(purge, range(PURGES)))

    assert sum(deleted) == 120
    assert IdempotencyKey.objects.get() == live
    assert not KeyEvent.objects.exists()


@pytest.mark.slow
@pytest.mark.postgres
def test_the_benchmark_of_sizes_runs() -> None:
    """In small, on a server of its own: loaded keys are replayed, found, and purged in a storm."""
    sizes = ["--rows", "200,6_000", "--rounds", "5", "--warmup", "1"]
    storm = ["--windows", "1", "--seconds", "1"]

    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *sizes, *storm],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    for words in ("claim at 6,000 x at 200 keys", "storm and purge", "index on id", "refilled"):
        assert words in run.stdout


def test_the_plot_of_the_overhead_marks_every_measurement() -> None:
    """One dot for each duration, view and kind; the ratios stand at the plain view's."""
    times: Any = {
        (f"{view}, {kind}", work): work * ratio
        for view in overhead.VIEWS
        for kind, ratio in (("bare", 1.0), ("first", 1.25), ("replay", 0.5))
        for work in overhead.WORK
    }

    picture = overhead.draw(times)

    assert picture.count("<circle") == 2 * 2 * len(overhead.WORK)
    assert picture.count(">1.25<") == picture.count(">0.50<") == len(overhead.WORK)
    assert "prefers-color-scheme:dark" in picture


@pytest.mark.postgres
@pytest.mark.slow
def test_a_hot_key_is_replayed_exactly_as_often_as_it_is_asked_for() -> None:
    """The benchmark's own run, of a second each way; how fast it was is nobody's promise here."""
    run = [sys.executable, "-m", "benchmarks.hot_key", "--seconds", "1"]

    said = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.count("all counted") == 2, said
