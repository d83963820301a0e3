"""Load databases of several sizes, measure all of them in turns, and purge the largest."""

from __future__ import annotations

import argparse
import logging
import os

import django
import psycopg
from django.core.management import call_command
from django.db import connections

from benchmarks.report import say
from benchmarks.scale.shards import alias_of
from benchmarks.stage import FLUSHING
from tests.pg_launcher import Cluster

# As on a small server of one's own. Vacuum runs when we say so, not into a measurement.
SETTINGS = {
    **FLUSHING,
    "shared_buffers": "2GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "512MB",
    "autovacuum": "off",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--rows",
        default="10_000,100_000,1_000_000",
        help="sizes, separated by commas; 10_000_000 takes 15 GB and 20 minutes",
    )
    parser.add_argument("--rounds", type=int, default=1000, help="of one request of each kind")
    parser.add_argument("--warmup", type=int, default=100, help="rounds before, not measured")
    parser.add_argument("--windows", type=int, default=3, help="of storm alone, then with purge")
    parser.add_argument("--seconds", type=float, default=10, help="a window")
    parser.add_argument(
        "--prepared", action="store_true", help="with statements prepared on the server"
    )
    options = parser.parse_args()
    if options.prepared:
        os.environ["BENCHMARK_PREPARED"] = "1"
    sizes = sorted(int(rows) for rows in options.rows.split(","))
    with Cluster(SETTINGS) as cluster:
        os.environ["DATABASE_URL"] = cluster.url
        os.environ["SCALE_ROWS"] = ",".join(map(str, sizes))
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.scale.settings"
        with psycopg.connect(cluster.url, autocommit=True) as server:
            for rows in sizes:
                server.execute(f"CREATE DATABASE {alias_of(rows)}")
        django.setup()
        logging.getLogger("django_idempotency").setLevel(logging.WARNING)
        for alias in connections:
            call_command("migrate", run_syncdb=True, verbosity=0, database=alias)
        _measure(sizes, options)


def _measure(sizes: list[int], options: argparse.Namespace) -> None:
    from benchmarks.scale import filling, latency, purging, weight  # they need the setup

    version = weight.ask("default", "SHOW server_version")
    say(f"PostgreSQL {version}, fsync on, {options.rounds} interleaved rounds")
    for rows in sizes:
        filling.fill(rows)
    weight.compare(sizes)
    latency.measure(sizes, rounds=options.rounds, warmup=options.warmup)
    weight.log(sizes, requests=min(options.rounds, 300))
    if options.windows:
        purging.measure(sizes[-1], seconds=options.seconds, windows=options.windows)


if __name__ == "__main__":
    main()
