"""Plant faults in a copy of the package, one at a time, and see whether the tests notice.

    make mutate                                   all of them, some minutes
    python -m tests.proof.mutations lock expiry   those whose names hold a word
    python -m tests.proof.mutations --whole lock  with all tests instead of the named ones

A fault counts as found when every test that is named for it fails, while the plainest test of
all still passes: a copy that does not even run proves nothing about the tests. The command
fails when a fault survives, when a patch no longer applies, and when a named test fails in a
copy without a fault.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from xml.etree import ElementTree

from tests.pg_launcher import Cluster
from tests.proof.mutants import C, Mutant
from tests.proof.mutants_more import MUTANTS
from tests.scratch import private_directory

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "django_idempotency"
COPIED = (PACKAGE, "tests", "example_project", "manage.py", "pyproject.toml")
SMOKE = C + "test_first_and_replay.py::test_r1_a_retry_gets_the_first_response_byte_for_byte"
SMOKE_WAY = "[/apiview/]"
PATIENCE = 300  # seconds for the tests of one fault
FAILED, PASSED, HUNG, ABSENT = "failed", "passed", "hung", "did not run"


class DoesNotApply(ValueError):
    """A patch is older than the code: its text occurs not at all, or more than once."""


def apply(mutant: Mutant, package: Path) -> None:
    """Change the copy in ``package``.

    Raises:
        DoesNotApply: a text to be replaced is not there exactly once.
    """
    for name, old, new in mutant.changes:
        path = package / name
        text = path.read_text()
        if (times := text.count(old)) != 1:
            msg = f"{mutant.name}: {old.strip().splitlines()[0]!r} occurs {times} times in {name}"
            raise DoesNotApply(msg)
        path.write_text(text.replace(old, new))


def copy_to(directory: Path) -> Path:
    """A copy of what the tests need; returns the package in it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.sqlite3*")
    for name in COPIED:
        source, target = ROOT / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy2(source, target)
    return directory / PACKAGE


class Stand:
    """A server for one fault at a time. Its databases are made once and used again."""

    def __init__(self, cluster: Cluster) -> None:
        self.url = cluster.url
        self.made = False


def run(directory: Path, tests: Iterable[str], stand: Stand) -> dict[str, str]:
    """What became of each test: {node id: failed, passed, hung or did not run}.

    A test that is named without its parameters has failed when one of its cases has.
    """
    report = directory / "report.xml"
    # Where a named test has vanished pytest runs nothing; what does not exist is left out.
    names = sorted(set(tests))
    whole = "tests" in names
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--reuse-db"]
    command += [] if stand.made else ["--create-db"]
    # Plugins that the named tests do not need would take half of the time.
    command += ["-p", "no:randomly" if whole else "pytest_django.plugin"]
    process = subprocess.Popen(
        [*command, f"--junitxml={report}", *names],
        cwd=directory,
        env={
            **{name: value for name, value in os.environ.items() if name != "TEST_DB"},
            "DATABASE_URL": stand.url,
            "PYTHONPATH": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "" if whole else "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its servers end with it
    )
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stand.made = False  # what hung may have left something behind
        return dict.fromkeys(names, HUNG)
    stand.made = True
    found = dict(_outcomes(report)) if report.exists() else {}
    return {name: _verdict(name, found) for name in names}


def _outcomes(report: Path) -> Iterator[tuple[str, str]]:
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own file
        path = case.get("classname", "").replace(".", "/")
        kinds = {child.tag for child in case}
        # An error is a fixture that failed or a module that cannot be imported: no verdict.
        outcome = (
            FAILED if "failure" in kinds else ABSENT if kinds & {"error", "skipped"} else PASSED
        )
        yield f"{path}.py::{case.get('name')}", outcome


def _verdict(name: str, found: dict[str, str]) -> str:
    cases = [
        outcome for case, outcome in found.items() if case == name or case.startswith(f"{name}[")
    ]
    if not cases:
        return ABSENT
    return FAILED if FAILED in cases else max(cases, key=[PASSED, ABSENT].index)


def judge(mutant: Mutant, stand: Stand, *, whole: bool = False) -> tuple[str, str]:
    """(what became of the fault, the tests that say so)."""
    with private_directory("idem-mutant-") as directory:
        try:
            apply(mutant, copy_to(directory))
        except DoesNotApply as stale:
            return "PATCH DOES NOT APPLY", str(stale)
        smoke = SMOKE + SMOKE_WAY
        outcomes = run(directory, [smoke, *(["tests"] if whole else mutant.killers)], stand)
        if whole:
            found = dict(_outcomes(directory / "report.xml"))
            failed = [name for name, outcome in found.items() if outcome == FAILED]
            return ("found" if failed else "SURVIVED"), _short(failed)
    if outcomes.pop(smoke) != PASSED:
        return "WRECKED", "nothing works, so nothing is shown"
    missed = [name for name, outcome in outcomes.items() if outcome in {PASSED, ABSENT}]
    if missed:
        return "SURVIVED", "; ".join(f"{_short([name])} {outcomes[name]}" for name in missed)
    return "found", _short(outcomes)


def _short(names: Collection[str]) -> str:
    return ", ".join(re.sub(r"^.*::(test_)?", "", name) for name in names) or "no test"


def baseline(names: Collection[str], stand: Stand) -> list[str]:
    """The named tests that fail, or do not exist, where there is no fault."""
    with private_directory("idem-mutant-") as directory:
        copy_to(directory)
        outcomes = run(directory, names, stand)
    return [f"{name} {outcome}" for name, outcome in outcomes.items() if outcome != PASSED]


@contextmanager
def stands(count: int) -> Iterator[Callable[..., Any]]:
    """``at(task, *arguments)`` calls a task with a stand that nobody uses meanwhile."""
    free: SimpleQueue[Stand] = SimpleQueue()

    def at(task: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        stand = free.get()
        try:
            return task(*arguments, stand, **options)
        finally:
            free.put(stand)

    with ExitStack() as stack:
        for _ in range(count):
            free.put(Stand(stack.enter_context(Cluster())))
        yield at


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutations")
    parser.add_argument("words", nargs="*", help="only faults whose names hold one of these")
    parser.add_argument("--whole", action="store_true", help="run all tests on each fault")
    parser.add_argument("--jobs", type=int, default=2, help="how many faults at once")
    options = parser.parse_args()
    chosen = [
        mutant
        for mutant in MUTANTS
        if not options.words or any(word in mutant.name for word in options.words)
    ]
    began, bad = time.perf_counter(), 0
    with stands(options.jobs) as at, ThreadPoolExecutor(options.jobs) as pool:
        named = sorted({name for mutant in chosen for name in mutant.killers} | {SMOKE + SMOKE_WAY})
        shares = [named[start :: options.jobs] for start in range(min(options.jobs, len(named)))]
        if broken := [*chain.from_iterable(pool.map(partial(at, baseline), shares))]:
            say("Without a fault, these do not pass:", *broken)
            return 1
        say(f"{'fault':<54}{'verdict':<22}{'s':>5}  tests")
        for mutant, (verdict, tests, seconds) in zip(
            chosen, pool.map(partial(at, timed, whole=options.whole), chosen), strict=True
        ):
            bad += verdict != "found"
            say(f"{mutant.name:<54}{verdict:<22}{seconds:>5.1f}  {tests}")
    say(f"{len(chosen) - bad} of {len(chosen)} found in {time.perf_counter() - began:.0f} s")
    return 1 if bad else 0


def timed(mutant: Mutant, stand: Stand, *, whole: bool) -> tuple[str, str, float]:
    began = time.perf_counter()
    return *judge(mutant, stand, whole=whole), time.perf_counter() - began


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
