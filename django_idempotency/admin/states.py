"""When an unfinished key counts as in progress: one answer for filters, tiles and reports."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q

from django_idempotency.clock import DatabaseNow

__all__ = ["IN_PROGRESS_FOR", "in_progress", "unfinished"]

# From a key's first sight. Hardly a request runs longer: servers and proxies cut them off
# after a minute or two. An older key without an answer waits for nobody; a retry may have it.
IN_PROGRESS_FOR = timedelta(minutes=5)


def in_progress() -> Q:
    """Keys whose first request is probably running."""
    return Q(completed_at=None, created_at__gt=DatabaseNow() - IN_PROGRESS_FOR)


def unfinished() -> Q:
    """Keys that failed, or whose worker died: free for the next retry."""
    return Q(completed_at=None, created_at__lte=DatabaseNow() - IN_PROGRESS_FOR)
