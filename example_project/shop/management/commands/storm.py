"""``manage.py storm``: retries, drops and doubles at a running shop, and what they left behind."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError

if TYPE_CHECKING:
    from example_project.shop.storm import Effects, Storm

MOST = 100_000  # operations; more would only keep the database busy
THREADS = 200  # more wait for each other, not for the server
BAR = 30  # characters
REDRAW = 0.1  # seconds
NAMED = 5  # keys that an error names
UNREAD_HEADER = "X-Not-Idempotency-Key"


class Command(BaseCommand):
    help = (
        "Sends retried, dropped and doubled orders to a running shop that uses this database, "
        "and counts there what they did. Fails if an order was placed twice."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--url", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
        add("--operations", type=int, default=1000, help="orders (default: %(default)s)")
        add("--concurrency", type=int, default=16, help="orders at once (default: %(default)s)")
        add(
            "--drop",
            type=float,
            default=0.2,
            help="share of the attempts that hang up before the answer (default: %(default)s)",
        )
        add(
            "--double",
            type=float,
            default=0.2,
            help="share of the attempts that are sent twice at once (default: %(default)s)",
        )
        add("--seed", type=int, default=1, help="chooses which (default: %(default)s)")
        add(
            "--unprotected",
            action="store_true",
            help="send the keys where the server does not read them, to see what they prevent",
        )

    def handle(self, *, unprotected: bool, **options: Any) -> None:
        names = ("url", "operations", "concurrency", "drop", "double", "seed")
        chosen = _checked({name: options[name] for name in names})
        if unprotected:
            chosen["header"] = UNREAD_HEADER
        try:
            from example_project.shop.storm import Storm, StormError
        except ImportError as error:
            msg = f"{error}. A storm needs httpx and stamina: pip install httpx 'stamina>=25.2'."
            raise CommandError(msg) from error
        storm = Storm(**chosen)
        try:
            storm.probe()
        except StormError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            msg = f"The tables of the shop cannot be read: {error}. Run `manage.py migrate`."
            raise CommandError(msg) from error
        interrupted = self._fire(storm)
        effects = storm.effects()
        self.stdout.write("\n".join(_table(storm, effects)))
        if interrupted:
            msg = "Interrupted; these are the operations that had ended."
            raise CommandError(msg, returncode=130)
        _judge(storm, effects)
        self.stdout.write(self.style.SUCCESS("Every order was placed at most once."))

    def _fire(self, storm: Storm) -> bool:
        """Whether Ctrl-C ended it."""
        drawn = 0.0
        try:
            for _ in storm.fire():
                if self.stdout.isatty() and time.monotonic() - drawn >= REDRAW:
                    self._draw(storm)
                    drawn = time.monotonic()
        except KeyboardInterrupt:
            return True
        finally:
            if self.stdout.isatty():
                self._draw(storm)
                self.stdout.write("")  # leave the line
        return False

    def _draw(self, storm: Storm) -> None:
        done = len(storm.outcomes)
        bar = "#" * (BAR * done // storm.operations)
        counted = f"{done}/{storm.operations} operations, {storm.attempts} attempts"
        self.stdout.write(f"\r[{bar:.<{BAR}}] {counted}", ending="")
        self.stdout.flush()


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a storm.

    Raises:
        CommandError: one of them makes no sense.
    """
    for name, most in (("operations", MOST), ("concurrency", THREADS)):
        if not 1 <= options[name] <= most:
            msg = f"--{name} must be 1 to {most}, not {options[name]}."
            raise CommandError(msg)
    for name in ("drop", "double"):
        if not 0 <= options[name] <= 1:
            msg = f"--{name} is a share: 0 to 1, not {options[name]}."
            raise CommandError(msg)
    if options["drop"] + options["double"] > 1:
        msg = "--drop and --double together must be at most 1: an attempt has one fate."
        raise CommandError(msg)
    parts = urlsplit(options["url"])
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        msg = f"--url must be like http://127.0.0.1:8000, not {options['url']!r}."
        raise CommandError(msg)
    return {**options, "url": options["url"].rstrip("/")}


def _table(storm: Storm, effects: Effects) -> Iterator[str]:
    from example_project.shop.storm import percentile

    reports = Counter(outcome.report for outcome in storm.outcomes)
    refused = len(storm.outcomes) - reports["done"] - reports["unknown"]
    seconds = [outcome.seconds for outcome in storm.outcomes]
    for name, count in (
        ("operations", len(storm.outcomes)),
        ("attempts", storm.attempts),
        ("executed", effects.executed),
        ("replayed", effects.replayed),
        ("refused in flight", effects.in_flight),
        ("conflicts", effects.conflicts),
        ("failed", refused),
        ("unknown", reports["unknown"]),
        ("lost", len(_lost(storm, effects))),
        ("duplicates", sum(effects.orders.values()) - len(effects.orders)),
    ):
        yield f"{name:20}{count:>10}"
    yield f"{'p50':20}{1000 * percentile(seconds, 0.5):>7.0f} ms"
    yield f"{'p95':20}{1000 * percentile(seconds, 0.95):>7.0f} ms"


def _lost(storm: Storm, effects: Effects) -> list[int]:
    """Operations that were reported as done and never took place."""
    done = [outcome.number for outcome in storm.outcomes if outcome.report == "done"]
    return [number for number in done if number not in effects.orders]


def _judge(storm: Storm, effects: Effects) -> None:
    """Compare what the client was told with what took place.

    Raises:
        CommandError: they differ in a way that no honest server causes.
    """
    refused = {o.number: o.report for o in storm.outcomes if o.report not in {"done", "unknown"}}
    wrong = {
        "placed more than once": [n for n, times in effects.orders.items() if times > 1],
        "reported as done and never placed": _lost(storm, effects),
        "reported as failed and placed": [n for n in refused if n in effects.orders],
    }
    problems = [
        f"{len(numbers)} orders were {what}, such as {', '.join(map(storm.key, numbers[:NAMED]))}."
        for what, numbers in wrong.items()
        if numbers
    ]
    if refused:
        answers = ", ".join(f"{n} {what}" for what, n in Counter(refused.values()).items())
        problems.append(f"The shop refused orders that were in order: {answers}.")
    if problems:
        raise CommandError("\n".join(problems))
