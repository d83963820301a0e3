"""Start a private PostgreSQL that flushes to disk, measure on it, print a table."""

from __future__ import annotations

import argparse
import os

from benchmarks.stage import database


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="measured requests per variant")
    parser.add_argument("--warmup", type=int, default=50, help="rounds before, not measured")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="view, first",
        metavar="VARIANT",
        help='profile 500 requests of one variant instead, by default of "view, first"',
    )
    parser.add_argument(
        "--prepared", action="store_true", help="with statements prepared on the server"
    )
    options = parser.parse_args()
    if options.prepared:
        os.environ["BENCHMARK_PREPARED"] = "1"
    with database():
        from benchmarks import measure  # here: it has models, which need the setup

        if options.profile:
            measure.profile(options.profile, requests=500)
        else:
            measure.compare(rounds=options.rounds, warmup=options.warmup)


if __name__ == "__main__":
    main()
