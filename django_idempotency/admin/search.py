"""What the search box understands, tried in the order of what an index answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Max, Q

from django_idempotency.exceptions import KeyInvalid
from django_idempotency.keys import KeyRules, parse_key
from django_idempotency.models import KeyEvent

from .clients import scope_of_user

if TYPE_CHECKING:
    from uuid import UUID

    from django_idempotency.models import IdempotencyKeyQuerySet

__all__ = ["Found", "find"]

EVENTS_SEARCHED = 100_000  # latest events whose request ids are compared: a range of their index
KEYS_FOUND = 100  # by the request id of an event; it names one request, so one key


@dataclass(frozen=True, slots=True)
class Found:
    """Which keys a term means. ``indexed``: they are found without reading all others."""

    condition: Q
    indexed: bool = True


def find(keys: IdempotencyKeyQuerySet, term: str) -> Found:
    """A whole key, a client or user name, a request id, or the beginning of a path."""
    if not term or "\x00" in term:  # PostgreSQL refuses to even compare it
        return Found(Q(pk__in=()) if term else Q())
    named = keys.for_key(_key_in(term))
    if named.exists():
        return Found(Q(pk__in=named.values("pk")))
    for scope in (term, scope_of_user(term)):
        if scope and keys.filter(scope=scope).exists():
            return Found(Q(scope=scope))
    if term.startswith("/"):
        return Found(Q(path__startswith=term), indexed=False)
    ids = _keys_with_event(term)
    if ids:
        return Found(Q(pk__in=ids))
    return Found(Q(request_id=term), indexed=False)


def _key_in(term: str) -> str:
    """The key as it is stored, also if the term was copied from a header, quotes and all."""
    try:
        return parse_key(term, KeyRules())
    except KeyInvalid:
        return term


def _keys_with_event(request_id: str) -> list[UUID]:
    """Keys that were used again by a request with this id, among the latest events."""
    latest = KeyEvent.objects.aggregate(latest=Max("pk"))["latest"]
    if latest is None:
        return []
    recent = KeyEvent.objects.filter(pk__gt=latest - EVENTS_SEARCHED, request_id=request_id)
    return list(recent.order_by().values_list("key_id", flat=True).distinct()[:KEYS_FOUND])
