"""Filters of the list. None reads the whole table to learn which values there are.

``reads`` says what a filter must look at; unless that is an index, the list looks through the
latest keys only, see ``changelist``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, GreaterThan
from django.utils.translation import gettext_lazy as _

from django_idempotency.clock import DatabaseNow
from django_idempotency.models import KeyTally

from .clients import clients_of
from .states import in_progress, unfinished
from .story import State

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.functional import _StrOrPromise

    from django_idempotency.models import IdempotencyKey

    Keys = QuerySet[IdempotencyKey]
    Choices = Iterable[tuple[str, _StrOrPromise]]

__all__ = [
    "ClientFilter",
    "ConflictsFilter",
    "EndpointFilter",
    "KeyFilter",
    "MethodFilter",
    "Reads",
    "ReplayedFilter",
    "ResponseFilter",
    "SinceFilter",
    "StateFilter",
    "tallied",
]

RECENT = 2_000  # latest keys whose clients and endpoints are offered
OFFERED = 8  # of them, the most frequent


class Reads(Enum):
    """What must be looked at to find the rows of a filter."""

    INDEX = auto()
    KEYS = auto()  # one after the other
    TALLIES = auto()  # and the tally of each


def tallied(column: str) -> Coalesce:
    """A count of each key, looked up key by key.

    Joined, a table of tallies is read as a whole to filter or order some of the keys.
    """
    tally = KeyTally.objects.filter(key=OuterRef("pk")).values(column)
    return Coalesce(Subquery(tally), 0)


class KeyFilter(admin.SimpleListFilter):
    """One parameter with a fixed set of values; any other value is refused, not ignored."""

    reads = Reads.KEYS
    offered: dict[str, tuple[_StrOrPromise, Q]]

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[IdempotencyKey]) -> Choices:
        return [(value, label) for value, (label, _condition) in self.offered.items()]

    def queryset(self, request: HttpRequest, queryset: Keys) -> Keys:
        value = self.value()
        return queryset if value is None else queryset.filter(self.condition(value))

    def condition(self, value: str) -> Q:
        if value not in self.offered:
            raise IncorrectLookupParameters
        return self.offered[value][1]


class StateFilter(KeyFilter):
    title = _("state")
    parameter_name = "state"
    offered = {
        State.COMPLETED: (_("Completed"), Q(completed_at__isnull=False)),
        State.IN_PROGRESS: (_("In progress"), in_progress()),
        State.UNFINISHED: (_("Unfinished"), unfinished()),
        "expired": (_("Expired"), Q(expires_at__lte=DatabaseNow())),
    }


class ConflictsFilter(KeyFilter):
    title = _("conflicting reuse")
    parameter_name = "conflicts"
    reads = Reads.INDEX
    offered = {
        "yes": (_("With conflicts"), Q(tally__conflict_count__gt=0)),
        "no": (_("Without conflicts"), Q(Exact(tallied("conflict_count"), 0))),
    }


class ReplayedFilter(KeyFilter):
    reads = Reads.TALLIES
    title = _("replays")
    parameter_name = "replayed"
    offered = {
        "yes": (_("Replayed"), Q(GreaterThan(tallied("replay_count"), 0))),
        "no": (_("Never replayed"), Q(Exact(tallied("replay_count"), 0))),
    }


class ResponseFilter(KeyFilter):
    title = _("response")
    parameter_name = "response"
    offered = {
        "2xx": (_("2xx success"), Q(response_status__range=(200, 299))),
        "3xx": (_("3xx redirection"), Q(response_status__range=(300, 399))),
        "4xx": (_("4xx client error"), Q(response_status__range=(400, 499))),
        "5xx": (_("5xx server error"), Q(response_status__range=(500, 599))),
        "not_stored": (
            _("Body not stored"),
            Q(completed_at__isnull=False, response_body__isnull=True),
        ),
    }


class MethodFilter(KeyFilter):
    title = _("method")
    parameter_name = "method"
    offered = {name: (name, Q(method=name)) for name in ("POST", "PATCH", "PUT", "DELETE")}


class SinceFilter(KeyFilter):
    title = _("first seen")
    parameter_name = "since"
    reads = Reads.INDEX
    offered = {
        value: (label, Q(created_at__gte=DatabaseNow() - timedelta(days=days)))
        for value, label, days in (
            ("24h", _("Last 24 hours"), 1),
            ("7d", _("Last 7 days"), 7),
            ("14d", _("Last 14 days"), 14),
        )
    }


class _RecentFilter(KeyFilter):
    """A column of many values: the most frequent of late are offered, any may be asked for."""

    column: str

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[IdempotencyKey]) -> Choices:
        latest = model_admin.get_queryset(request).order_by("-created_at")
        recent = latest.values_list(self.column, flat=True)[:RECENT]
        values = [value for value, _count in Counter(recent).most_common(OFFERED) if value]
        chosen = self.value()
        if chosen and chosen not in values:
            values.insert(0, chosen)
        return list(self.named(values, request, model_admin))

    def named(
        self, values: list[str], request: HttpRequest, model_admin: ModelAdmin[IdempotencyKey]
    ) -> Iterator[tuple[str, str]]:
        for value in values:
            yield value, value

    def condition(self, value: str) -> Q:
        if "\x00" in value:  # PostgreSQL refuses to even compare it
            raise IncorrectLookupParameters
        return Q(**{self.column: value})


class ClientFilter(_RecentFilter):
    title = _("client")
    parameter_name = "client"
    column = "scope"
    reads = Reads.INDEX

    def named(
        self, values: list[str], request: HttpRequest, model_admin: ModelAdmin[IdempotencyKey]
    ) -> Iterator[tuple[str, str]]:
        known = clients_of(values, model_admin.admin_site, request)
        for value in values:
            yield value, known[value].label


class EndpointFilter(_RecentFilter):
    title = _("endpoint")
    parameter_name = "endpoint"
    column = "route"
