"""Run the suite on every Python and Django that we promise, and print a table.

$ make matrix
$ make matrix MATRIX="--only ends --db sqlite -- -m 'not slow' tests/conformance"

What follows ``--`` goes to pytest. A Python that is not on this machine is named in the table
and fails the run, for what was not tried is not shown to work; ``--may-miss`` lets it pass.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
DJANGOS = {"5.2": "3.11", "6.0": "3.12", "6.1": "3.12"}  # the oldest Python of each
LOWEST = "lowest"  # the oldest of everything in pyproject.toml
CLOSING = re.compile(r"^=*\s*((?:\d+ \w+,? ?)+) in [\d.]+s", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    python: str
    django: str

    def command(self, interpreter: str) -> list[str]:
        uv = os.environ.get("UV") or which("uv")
        if uv is None:
            sys.exit("uv is not on PATH; `make matrix` brings it along.")
        run = [uv, "run", "--quiet", "--isolated", "--python", interpreter]
        if self.django == LOWEST:
            return [*run, "--resolution", "lowest-direct"]
        return [*run, "--with", f"django=={self.django}.*"]


def cells(only: str) -> Iterator[Cell]:
    """All that combine, or the two ``ends``: the oldest of everything, the newest of it."""
    yield Cell(PYTHONS[0], LOWEST)
    pairs = [
        Cell(python, django)
        for django, python in itertools.product(DJANGOS, PYTHONS)
        if _number(python) >= _number(DJANGOS[django])
    ]
    yield from pairs[-1:] if only == "ends" else pairs


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def interpreter(version: str) -> str | None:
    """Where that Python is: on PATH, or among those that pyenv has built."""
    builds = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [str(path) for path in sorted(builds.glob(f"{version}.*/bin/python"))]
    # pyenv's own names on PATH are there for versions that it will not run.
    if (path := which(f"python{version}")) and "shims" not in path:
        found.append(path)
    return found[-1] if found else None


def attempt(cell: Cell, python: str, database: str, arguments: list[str]) -> tuple[bool, str]:
    """(whether all tests passed, what pytest said at the end)"""
    command = [*cell.command(python), "pytest", "-q", *arguments]
    environment = {**os.environ, "TEST_DB": database}
    # Not ours to pass on: which of several Pythons the others are to use.
    for name in ("UV_PYTHON", "VIRTUAL_ENV"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode:
        sys.stderr.write(output[-20_000:])
    closing = CLOSING.findall(output)
    return done.returncode == 0, closing[-1] if closing else f"pytest ended with {done.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--only", choices=["all", "ends"], default="all")
    parser.add_argument("--db", choices=["postgres", "sqlite", "mariadb"], default="postgres")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="for pytest")
    parser.add_argument("--may-miss", action="store_true", help="a Python may be missing")
    options = parser.parse_args()
    failed = 0
    for cell in cells(options.only):
        started = time.perf_counter()
        if (python := interpreter(cell.python)) is None:
            passed, said = options.may_miss, "not run: this Python is not here"
        else:
            passed, said = attempt(cell, python, options.db, options.pytest)
        failed += not passed
        print(
            f"Python {cell.python:<5} Django {cell.django:<7} {'ok' if passed else 'FAILED':<7}"
            f" {said} ({time.perf_counter() - started:.0f} s)",
            flush=True,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
