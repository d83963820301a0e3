"""The list on tables that are never small: nothing here reads all of a million keys.

What an index answers is answered from all keys. Filters and orders that no index serves look
through the latest keys of the chosen period, and the page says so.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import F, Prefetch
from django.utils.functional import cached_property

from django_idempotency.clock import DatabaseNow
from django_idempotency.models import IdempotencyKey, KeyEvent

from .clients import Client, clients_of
from .dates import date_links
from .filters import KeyFilter, Reads, SinceFilter
from .story import STRIP_LENGTH

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from .desk import IdempotencyKeyAdminMixin
    from .search import Found

    class ListedKey(IdempotencyKey):
        """A key with what the list adds to it."""

        client: Client
        now: datetime
        first_events: list[KeyEvent]

        class Meta:
            abstract = True

    _Base = ChangeList
else:
    _Base = object

__all__ = ["COUNTED", "SCANNED", "CappedPaginator", "change_list_class"]

COUNTED = 5_000  # rows; COUNT(*) of a million takes longer than the whole page may
SCANNED = 50_000  # latest keys that are looked through where no index helps
SCANNED_TALLIES = 10_000  # where each needs its tally, too, from anywhere in another table
_HEAVY = ("response_body", "response_headers", "request_record")


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to a limit; beyond it, a page is found by its date."""

    capped = False

    @cached_property
    def count(self) -> int:
        if getattr(self.object_list, "model", None) is not IdempotencyKey:
            return super().count  # the history of a key is paged by the same class
        # In no order, so that the database may stop at the first rows that it finds.
        keys = cast("QuerySet[IdempotencyKey]", self.object_list)
        found = keys.order_by()[: COUNTED + 1].count()
        self.capped = found > COUNTED
        return min(found, COUNTED)


class _KeyChangeList(_Base):
    """Bounds the queries, and loads what the columns need for the whole page at once."""

    looked_through: int | None = None  # keys, if older ones were left out
    _period: dict[str, Any]  # lookups of the date hierarchy

    def get_filters(self, request: HttpRequest) -> Any:
        try:
            found = super().get_filters(request)
        except (ValueError, OverflowError) as error:  # the year 9999 has no end
            raise IncorrectLookupParameters from error
        self._period = dict(found[2])
        return found

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[IdempotencyKey]:
        keys: QuerySet[IdempotencyKey] = super().get_queryset(request, exclude_parameters)
        limit = self._scan_limit(request)
        if limit:
            oldest = self._oldest_of(limit, request)
            if oldest is not None:
                self.looked_through = limit
                keys = keys.filter(created_at__gt=oldest)
        # Prefetched, not joined: a join would be made for all rows that are to be sorted.
        return (
            keys.select_related(None)
            .prefetch_related("tally", _first_events())
            .defer(*_HEAVY)
            .annotate(now=DatabaseNow())
        )

    def _scan_limit(self, request: HttpRequest) -> int:
        """How many keys may be looked through; 0 = an index answers."""
        chosen = [
            spec.reads
            for spec in self.filter_specs
            if isinstance(spec, KeyFilter) and spec.value() is not None
        ]
        if self.params.get("o"):  # the orders that are offered: by creation, and by tallies
            chosen.append(Reads.TALLIES)
        if self.query and not self._found(request).indexed:
            chosen.append(Reads.KEYS)
        if Reads.TALLIES in chosen:
            return SCANNED_TALLIES
        return SCANNED if Reads.KEYS in chosen else 0

    def _found(self, request: HttpRequest) -> Found:
        return cast("IdempotencyKeyAdminMixin", self.model_admin).found(request, self.query)

    def _oldest_of(self, limit: int, request: HttpRequest) -> datetime | None:
        """When the key was first seen that is just too old to be looked at; None = none is."""
        keys: QuerySet[IdempotencyKey] = self.root_queryset
        for name, values in self._period.items():
            for value in values if isinstance(values, list) else [values]:
                keys = keys.filter(**{name: value})
        for spec in self.filter_specs:
            if isinstance(spec, SinceFilter):
                keys = spec.queryset(request, keys)
        latest = keys.order_by("-created_at").values_list("created_at", flat=True)
        return next(iter(latest[limit : limit + 1]), None)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        keys = list(self.result_list)
        site = self.model_admin.admin_site
        known = clients_of((key.scope for key in keys), site, request)
        for key in keys:
            key.client = known[key.scope]
        self.result_list = keys

    @cached_property
    def dates(self) -> dict[str, Any]:
        return date_links(self)

    @property
    def counted(self) -> int | None:
        """How many keys were counted, if there are more."""
        return COUNTED if cast("CappedPaginator", self.paginator).capped else None


def _first_events() -> Prefetch[Any]:
    """The events of the strip: the first few of every key on the page, in one query."""
    events = KeyEvent.objects.filter(at__gte=F("key__created_at")).order_by("at", "pk")
    return Prefetch(
        "events", events.only("key_id", "kind", "at")[:STRIP_LENGTH], to_attr="first_events"
    )


@functools.cache
def change_list_class(base: Hashable) -> type[ChangeList]:
    """``base`` is the change list of the admin in use, which may be a theme's own."""
    return type("KeyChangeList", (_KeyChangeList, cast("type[ChangeList]", base)), {})
