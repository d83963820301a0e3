from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from django_idempotency import upkeep
from django_idempotency.conf import get_settings
from django_idempotency.models import IdempotencyKey

LARGEST_BATCH = 10_000  # each key is a parameter of one statement, and databases limit those
LONGEST_DAYS = 36_500  # a century; the databases' calendars do not reach back for ever
TOMBSTONE_DAYS = 30  # with ON_EXPIRED="reject" an expired key must be remembered to be refused


class Command(BaseCommand):
    help = (
        "Delete expired idempotency keys with their trail, in batches. Run it from cron, at "
        "least daily. A key whose request is running is never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch-size", type=int, default=1000, help="keys per transaction")
        parser.add_argument("--dry-run", action="store_true", help="count, delete nothing")
        parser.add_argument("--max-seconds", type=float, help="stop after this time")
        parser.add_argument(
            "--keep-days",
            type=float,
            help="keep expired keys for so many days more, for the admin's history "
            f'(default 0; {TOMBSTONE_DAYS} with ON_EXPIRED="reject")',
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="alias of the database to purge (default: the one that the router names)",
        )

    def handle(self, **options: Any) -> None:
        if not 1 <= options["batch_size"] <= LARGEST_BATCH:
            msg = f"--batch-size must be 1 to {LARGEST_BATCH}."
            raise CommandError(msg)
        if not (options["max_seconds"] is None or options["max_seconds"] >= 0):  # so is NaN
            msg = "--max-seconds must be 0 or more."
            raise CommandError(msg)
        keep = self._keep(options["keep_days"])
        alias = options["database"] or router.db_for_write(IdempotencyKey)
        if options["dry_run"]:
            count = IdempotencyKey.objects.using(alias).expired(for_at_least=keep).count()
            self.stdout.write(f"Would delete {count} expired keys.")
            return
        purge = partial(upkeep.purge, limit=options["batch_size"], keep=keep, using=alias)
        total, in_time = self._purge(purge, options["max_seconds"])
        finished = in_time or not upkeep.is_left(keep=keep, using=alias)
        rest = "" if finished else " Time is up; more are left."
        self.stdout.write(self.style.SUCCESS(f"Deleted {total} expired keys.{rest}"))

    def _keep(self, days: float | None) -> timedelta:
        if days is None:
            days = TOMBSTONE_DAYS if get_settings().ON_EXPIRED == "reject" else 0
        if not 0 <= days <= LONGEST_DAYS:
            msg = f"--keep-days must be 0 to {LONGEST_DAYS}."
            raise CommandError(msg)
        return timedelta(days=days)

    def _purge(self, purge: Callable[[], int], seconds: float | None) -> tuple[int, bool]:
        """How many keys went, and whether that was all before the time was up."""
        deadline = None if seconds is None else time.monotonic() + seconds
        total = 0
        while deleted := purge():
            total += deleted
            if self.stdout.isatty():
                self.stdout.write(f"\r{total} deleted", ending="")
                self.stdout.flush()
            if deadline is not None and time.monotonic() >= deadline:
                return total, False
        if total and self.stdout.isatty():
            self.stdout.write("\r", ending="")
        return total, True
