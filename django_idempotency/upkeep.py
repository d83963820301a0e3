"""What people and cron do to keys that are there: with the ORM, off the hot path.

Everything here takes the key's row lock first and passes over what is locked: a request that
holds its key is never disturbed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connections, router, transaction
from django.db.models import F
from django.db.models.functions import Greatest

from .clock import DatabaseNow
from .models import IdempotencyKey, IdempotencyKeyQuerySet, KeyEvent, KeyTally

__all__ = ["Done", "expire", "forget", "forget_finished", "is_left", "purge"]


_BATCH = 1000  # keys deleted by one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of the keys that were named; those in none of the sets do not exist."""

    changed: frozenset[UUID]
    held: frozenset[UUID]  # by a request in flight: left alone
    idle: frozenset[UUID] = frozenset()  # there was nothing to change


def purge(*, limit: int, keep: timedelta = timedelta(0), using: str | None = None) -> int:
    """Delete up to ``limit`` keys that expired at least ``keep`` ago, with their trail.

    A key that a request holds is passed over. ``using`` = the database's alias; None = the one
    that the router names. Returns how many keys went.
    """
    alias = using or router.db_for_write(IdempotencyKey)
    with transaction.atomic(using=alias):
        ids = _purgeable(alias, limit=limit, keep=keep)
        _delete(ids, alias)
    return len(ids)


def is_left(*, keep: timedelta = timedelta(0), using: str | None = None) -> bool:
    """Whether :func:`purge` would find another key; one that a request holds does not count."""
    alias = using or router.db_for_write(IdempotencyKey)
    with transaction.atomic(using=alias):
        return bool(_purgeable(alias, limit=1, keep=keep))


def forget(ids: Collection[UUID]) -> Done:
    """Delete keys with their trail, so that their next request executes once more."""
    alias = router.db_for_write(IdempotencyKey)
    with transaction.atomic(using=alias):
        named = IdempotencyKey.objects.using(alias).filter(pk__in=ids).order_by("pk")
        ours = frozenset(_locked(named).values_list("pk", flat=True))
        _delete(ours, alias)
        # What is still there, another transaction holds.
        held = frozenset(named.values_list("pk", flat=True))
    return Done(changed=ours, held=held)


def forget_finished(keys: IdempotencyKeyQuerySet) -> None:
    """Delete the finished ones of ``keys`` with their trail; their responses are not loaded."""
    alias = router.db_for_write(IdempotencyKey)
    left = keys.using(alias).completed().order_by("pk")
    while batch := list(left.values_list("pk", flat=True)[:_BATCH]):
        _delete(batch, alias)
        left = left.filter(pk__gt=batch[-1])  # comes to an end, whatever a trigger keeps


def expire(ids: Collection[UUID]) -> Done:
    """End the retention of completed keys now.

    An unfinished key is free as it is, and an expired one stays expired since when it was.
    """
    alias = router.db_for_write(IdempotencyKey)
    with transaction.atomic(using=alias):
        named = IdempotencyKey.objects.using(alias).filter(pk__in=ids).order_by("pk")
        ours = frozenset(_locked(named).values_list("pk", flat=True))
        live = named.filter(pk__in=ours, expires_at__gt=DatabaseNow()).completed()
        changed = frozenset(live.values_list("pk", flat=True))
        # A key expires after it was first seen, be it by a millisecond.
        earliest = F("created_at") + timedelta(milliseconds=1)
        named.filter(pk__in=changed).update(expires_at=Greatest(DatabaseNow(), earliest))
        held = frozenset(named.exclude(pk__in=ours).values_list("pk", flat=True))
    return Done(changed=changed, held=held, idle=ours - changed)


def _purgeable(alias: str, *, limit: int, keep: timedelta) -> list[UUID]:
    expired = IdempotencyKey.objects.using(alias).expired(for_at_least=keep)
    return list(_locked(expired.order_by("expires_at")).values_list("pk", flat=True)[:limit])


def _locked(keys: IdempotencyKeyQuerySet) -> IdempotencyKeyQuerySet:
    """Those of ``keys`` that nobody holds, locked until the transaction ends."""
    skip = connections[keys.db].features.has_select_for_update_skip_locked
    return keys.select_for_update(skip_locked=skip)


def _delete(ids: Collection[UUID], alias: str) -> None:
    for model, column in ((KeyEvent, "key_id"), (KeyTally, "key_id"), (IdempotencyKey, "pk")):
        rows = model._default_manager.using(alias).filter(**{f"{column}__in": ids})
        rows._raw_delete(alias)  # noqa: SLF001 - no collector, no signals: one DELETE
