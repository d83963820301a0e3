"""What people and cron do to keys that are there: with the ORM, off the hot path."""

from __future__ import annotations

from datetime import timedelta

from django.db import connections, router, transaction

from .models import IdempotencyKey, KeyEvent, KeyTally

__all__ = ["purge"]


def purge(*, limit: int, keep: timedelta = timedelta(0)) -> int:
    """Delete up to ``limit`` keys that expired at least ``keep`` ago, with their trail.

    A key that a request holds is passed over. Returns how many keys went.
    """
    alias = router.db_for_write(IdempotencyKey)
    with transaction.atomic(using=alias):
        expired = IdempotencyKey.objects.using(alias).expired(for_at_least=keep)
        skip = connections[alias].features.has_select_for_update_skip_locked
        locked = expired.order_by("expires_at").select_for_update(skip_locked=skip)
        ids = list(locked.values_list("pk", flat=True)[:limit])
        for model, column in ((KeyEvent, "key_id"), (KeyTally, "key_id"), (IdempotencyKey, "pk")):
            rows = model._default_manager.using(alias).filter(**{f"{column}__in": ids})
            rows._raw_delete(alias)  # noqa: SLF001 - no collector, no signals: one DELETE
    return len(ids)
