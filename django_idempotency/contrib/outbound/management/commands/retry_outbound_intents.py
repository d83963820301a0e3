from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from django_idempotency.contrib.outbound.handlers import Handler, handlers
from django_idempotency.contrib.outbound.models import OutboundIntent, OutboundIntentQuerySet
from django_idempotency.contrib.outbound.refusals import IntentNotSendable


class Command(BaseCommand):
    help = (
        "Send the outbound intents whose outcome is open or unknown, each with its stored key, "
        "with growing pauses between the attempts of one. Run it from cron, every minute."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch-size", type=int, default=100, help="intents read at a time")
        parser.add_argument("--max-seconds", type=float, help="begin no attempt after this time")
        parser.add_argument("--dry-run", action="store_true", help="count, send nothing")
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="alias of the database with the intents (default: the one that the router names)",
        )

    def handle(self, **options: Any) -> None:
        if options["batch_size"] < 1:
            msg = "--batch-size must be 1 or more."
            raise CommandError(msg)
        seconds = options["max_seconds"]
        if seconds is not None and not seconds >= 0:  # NaN is neither
            msg = "--max-seconds must be 0 or more."
            raise CommandError(msg)
        alias = options["database"] or router.db_for_write(OutboundIntent)
        self.intents = OutboundIntent.objects.using(alias)
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.stuck: set[int] = set()  # could not even be claimed, and would be due for ever
        if options["dry_run"]:
            due = sum(self._due(handler).count() for handler in handlers.values())
            self.stdout.write(f"Would send {due} intents.")
        else:
            self._send_all(options["batch_size"])
        self._report_stuck()

    def _send_all(self, batch_size: int) -> None:
        for handler in handlers.values():
            for intent in self._in_time(handler, batch_size):
                self._send(handler, intent)
        counts = self.counts
        if self.stdout.isatty() and counts:
            self.stdout.write("\r", ending="")
        rest = " Time is up; more are left." if counts["late"] else ""
        told = ", ".join(f"{counts[state]} {state}" for state in ("succeeded", "failed", "unknown"))
        sent = sum(counts.values()) - counts["late"] - counts["passed over"]
        self.stdout.write(self.style.SUCCESS(f"Sent {sent} intents: {told}.{rest}"))

    def _in_time(self, handler: Handler, batch_size: int) -> Iterator[OutboundIntent]:
        # An attempt moves its intent out of what is due, whatever becomes of it.
        while batch := list(self._due(handler).exclude(pk__in=self.stuck)[:batch_size]):
            for intent in batch:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    self.counts["late"] = 1
                    return
                yield intent

    def _due(self, handler: Handler) -> OutboundIntentQuerySet:
        return self.intents.due(handler.purpose, window=handler.window)

    def _send(self, handler: Handler, intent: OutboundIntent) -> None:
        number = intent.attempts + 1
        try:
            handler.send(intent)
        except IntentNotSendable:
            number = 0  # another worker was quicker
        except Exception as error:
            self.stderr.write(f"{intent}, key {intent.key}: {type(error).__name__}: {error}")
        if intent.attempts != number:
            self.counts["passed over"] += 1
            self.stuck.add(intent.pk)
            return
        self.counts[intent.state] += 1
        if self.stdout.isatty():
            self.stdout.write(f"\r{sum(self.counts.values())} sent", ending="")
            self.stdout.flush()

    def _report_stuck(self) -> None:
        """What this command cannot help with, so that cron's mail says so."""
        for handler in handlers.values():
            count = self.intents.past_window(handler.purpose, window=handler.window).count()
            if count:
                self.stderr.write(
                    f"{count} intents to {handler.purpose} are past their window of "
                    f"{handler.window}: ask the other side, then resolve() them."
                )
        unknown = self.intents.unresolved().exclude(purpose__in=list(handlers))
        for purpose in unknown.order_by("purpose").values_list("purpose", flat=True).distinct():
            self.stderr.write(f"Nobody sends {purpose!r}: register a function with @sends.")
