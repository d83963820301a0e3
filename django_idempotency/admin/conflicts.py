"""Who reuses keys for other requests, where, and what differed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Max, Sum

from django_idempotency.protocol import Outcome

from .documents import whole
from .period import Period
from .source import Rows, Source, up_to, within

__all__ = ["Conflict", "Leader", "Leaders", "latest_conflicts", "leaders"]

NEWEST = 5_000  # conflicts that the rankings look at: more say the same and take seconds
NEWEST_KEYS = 10_000  # the same where conflicts are only counted, key by key
_RANKED = 8
_LATEST = 8


@dataclass(frozen=True, slots=True)
class Leader:
    """A client or an endpoint, and its share in the trouble."""

    name: str
    conflicts: int
    keys: int  # that were reused
    latest: datetime | None  # None: nobody noted when


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaders:
    """The first few of each, most conflicts first."""

    clients: tuple[Leader, ...]
    endpoints: tuple[Leader, ...]
    conflicts: int  # all that were looked at
    newest_only: bool  # there were more


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One refused reuse of a key."""

    at: datetime
    event_id: int
    key_id: uuid.UUID
    key: str
    scope: str
    method: str  # of the refused request, as its path
    path: str
    changed: tuple[str, ...]  # names of fields; () where nothing was kept to compare


def leaders(source: Source, period: Period) -> Leaders:
    """Clients and endpoints by conflicts, from one grouping over both."""
    newest_only = False
    if source.dated:
        rows = _conflicts(source, period)
        cut = rows.order_by("-at").values_list("at", flat=True)[NEWEST : NEWEST + 1].first()
        newest_only = cut is not None
        rows = rows.filter(at__gt=cut) if newest_only else rows
        # A key has one client and one endpoint, so the counts of keys add up.
        figures: dict[str, Any] = {"n": Count("*"), "keys": Count("key", distinct=True)}
        groups = rows.values(scope=F("key__scope"), route=F("key__route"))
        groups = groups.annotate(**figures, latest=Max("at"))
    else:
        rows = source.tallies.filter(conflict_count__gt=0)
        cut = None
        if up_to(NEWEST + 1, rows, "conflict_count") > NEWEST:
            keys = within(source.keys, "created_at", period.start, period.end)
            times = keys.order_by("-created_at").values_list("created_at", flat=True)
            cut = times[NEWEST_KEYS : NEWEST_KEYS + 1].first()
        newest_only = cut is not None
        rows = within(rows, "key__created_at", period.start, period.end)
        rows = rows.filter(key__created_at__gt=cut) if newest_only else rows
        groups = rows.values(scope=F("key__scope"), route=F("key__route"))
        groups = groups.annotate(n=Sum("conflict_count"), keys=Count("*"))
    found = list(groups)
    return Leaders(
        clients=_ranked(found, "scope"),
        endpoints=_ranked(found, "route"),
        conflicts=sum(row["n"] for row in found),
        newest_only=newest_only,
    )


def latest_conflicts(source: Source, period: Period) -> tuple[Conflict, ...]:
    """The newest first. Bodies and records are not read."""
    columns = ("at", "pk", "key_id", "key__key", "key__scope", "method", "path", "differences")
    rows = _conflicts(source, period).order_by("-at").values_list(*columns)[:_LATEST]
    return tuple(
        Conflict(
            at=at,
            event_id=event_id,
            key_id=key_id,
            key=key,
            scope=scope,
            method=method,
            path=path,
            changed=_names(differences),
        )
        for at, event_id, key_id, key, scope, method, path, differences in rows
    )


def _conflicts(source: Source, period: Period) -> Rows:
    rows = within(source.events, "at", period.start, period.end)
    return rows.filter(kind=Outcome.CONFLICT.value)


def _ranked(rows: Iterable[dict[str, Any]], by: str) -> tuple[Leader, ...]:
    found: dict[str, Leader] = {}
    for row in rows:
        name, latest = row[by], row.get("latest")
        known = found.get(name, Leader(name, 0, 0, latest))
        found[name] = Leader(
            name=name,
            conflicts=known.conflicts + row["n"],
            keys=known.keys + row["keys"],
            latest=max(latest, known.latest) if latest and known.latest else latest,
        )
    order = sorted(found.values(), key=lambda leader: (-leader.conflicts, leader.name))
    return tuple(order[:_RANKED])


def _names(differences: str) -> tuple[str, ...]:
    """Field names from the JSON of an event; the table may hold what another version wrote."""
    try:
        found = json.loads(differences or "{}")
    except (ValueError, RecursionError):
        return ()
    return tuple(map(whole, found)) if isinstance(found, dict) else ()
