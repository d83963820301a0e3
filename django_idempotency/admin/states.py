"""When an unfinished key counts as in progress: one answer for filters, tiles and reports."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, F, OuterRef, Q

from django_idempotency.clock import DatabaseNow
from django_idempotency.models import IdempotencyKey, KeyTally

__all__ = ["IN_PROGRESS_FOR", "in_progress", "unfinished"]

# From a key's first sight. Hardly a request runs longer: servers and proxies cut them off
# after a minute or two. An older key without an answer waits for nobody; a retry may have it.
IN_PROGRESS_FOR = timedelta(minutes=5)


def in_progress() -> Q:
    """Keys whose request is probably running: young, and not every execution has ended."""
    young = Q(created_at__gt=DatabaseNow() - IN_PROGRESS_FOR)
    return Q(completed_at=None) & young & ~Q(_all_ended())


def unfinished() -> Q:
    """Keys that failed, or whose worker died: free for the next retry."""
    # As a set, for the young are few. To look up a tally for each row costs nothing, because
    # it is not done for old rows; but PostgreSQL expects the worst, and may compile a plan.
    running = IdempotencyKey.objects.filter(in_progress()).values("pk")
    return Q(completed_at=None) & ~Q(pk__in=running)


def _all_ended() -> Exists:
    """Whether each execution that was begun is known to have failed, or to have given way."""
    ended = F("failure_count") + F("given_way_count")
    tallies = KeyTally.objects.annotate(ended=ended)
    return Exists(tallies.filter(key=OuterRef("pk"), ended__gte=OuterRef("attempts")))
