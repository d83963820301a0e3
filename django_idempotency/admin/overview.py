"""The overview page, and the tiles above the list: figures into words and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_idempotency.models import IdempotencyKey

from .charts import bar
from .clients import Client, clients_of
from .conflicts import NEWEST, NEWEST_KEYS, Conflict, Leader
from .figures import age_figure, conflict_figure, number, percent, traffic_figure
from .period import Period, parse_period
from .reports import Overview, Source, overview, tiles
from .spelling import age as ago
from .tiles import list_note, list_tiles, overview_tiles

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    _Base = admin.ModelAdmin[IdempotencyKey]
else:
    _Base = object  # so that another admin's ModelAdmin can stand behind it

__all__ = ["OverviewMixin"]

_TEMPLATE = "admin/django_idempotency/idempotencykey/overview.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A client or an endpoint in its table."""

    label: str
    scope: str = ""  # of a client that has a name besides
    url: str
    conflicts: str
    keys: str
    share: str
    bar: SafeString


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One of the latest conflicts."""

    conflict: Conflict
    client: Client
    url: str
    ago: str
    changed: str


class OverviewMixin(_Base):
    """The part of a key desk that counts."""

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """The page at ``overview/``. Any query string is answered, see ``parse_period``."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = datetime.now(UTC)
        period = parse_period(request.GET, now)
        found = overview(self._source(request), period)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("Overview"),
            "opts": self.opts,
            "media": self.media,
            "period": period,
            "presets": _presets(period),
            "today": now.astimezone(period.end.tzinfo).date(),
            "tiles": overview_tiles(found),
            "figures": [traffic_figure(found, period)],
            "small_figures": [
                figure
                for figure in (conflict_figure(found, period), age_figure(found, period))
                if figure is not None
            ],
            "rankings": self._rankings(request, found),
            "refusals": self._refusals(request, found.latest, now),
            "notes": _notes(found, period),
            "list_url": self._list_url(),
        }
        return TemplateResponse(request, _TEMPLATE, context)

    def tiles_context(self, request: HttpRequest) -> dict[str, object]:
        """What ``_tiles.html`` needs to stand above the list of keys."""
        found = tiles(self._source(request), datetime.now(UTC))
        return {
            "tiles": list_tiles(found, self._url("overview")),
            "tiles_note": list_note(found),
        }

    def _source(self, request: HttpRequest) -> Source:
        return Source.of(self.get_queryset(request))  # type: ignore[arg-type]

    def _url(self, name: str, *args: Any) -> str:
        view = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(view, args=args, current_app=self.admin_site.name)

    def _list_url(self, **filters: str) -> str:
        query = f"?{urlencode(filters)}" if filters else ""
        return self._url("changelist") + query

    def _rankings(self, request: HttpRequest, found: Overview) -> list[dict[str, Any]]:
        """The two tables of who and where, with links to the keys behind each line."""
        leaders = found.leaders
        clients = clients_of((one.name for one in leaders.clients), self.admin_site, request)
        return [
            {
                "title": _("Clients by conflicts"),
                "head": _("Client"),
                "rows": [
                    _rank(
                        one,
                        leaders.conflicts,
                        self._list_url(client=one.name, conflicts="yes"),
                        label=clients[one.name].label,
                    )
                    for one in leaders.clients
                ],
            },
            {
                "title": _("Endpoints by conflicts"),
                "head": _("Endpoint"),
                "rows": [
                    _rank(
                        one,
                        leaders.conflicts,
                        self._list_url(endpoint=one.name, conflicts="yes"),
                        label=one.name,
                    )
                    for one in leaders.endpoints
                ],
            },
        ]

    def _refusals(
        self, request: HttpRequest, latest: Sequence[Conflict], now: datetime
    ) -> list[Refusal]:
        clients = clients_of((one.scope for one in latest), self.admin_site, request)
        return [
            Refusal(
                conflict=one,
                client=clients[one.scope],
                url=f"{self._url('change', one.key_id)}#conflict-{one.event_id}",
                ago=ago(one.at, now if one.at.tzinfo else datetime.now()),  # noqa: DTZ005 -- as stored
                changed=", ".join(map(_field_name, one.changed)),
            )
            for one in latest
        ]


def _presets(period: Period) -> list[tuple[str, str, bool]]:
    """(value, label, whether it is the one shown) of the usual periods."""
    names = (("24h", _("24 hours")), ("7d", _("7 days")), ("14d", _("14 days")))
    return [(value, label, value == period.name) for value, label in names]


def _rank(leader: Leader, conflicts: int, url: str, *, label: str) -> Rank:
    share = leader.conflicts / conflicts if conflicts else 0
    return Rank(
        label=label,
        scope="" if label == leader.name else leader.name,
        url=url,
        conflicts=number(leader.conflicts),
        keys=number(leader.keys),
        share=percent(leader.conflicts, conflicts),
        bar=bar(share, "idem-c-conflict"),
    )


def _notes(found: Overview, period: Period) -> list[str]:
    """What the figures do not say by themselves."""
    notes = []
    if not period.understood:
        notes.append(_("That period makes no sense; these are the last 14 days."))
    if found.traffic.estimated:
        notes.append(
            _(
                "Numbers with \N{ALMOST EQUAL TO} and their bars are estimated from some of the "
                "keys: there are too many to count."
            )
        )
    if found.overused_keys is None:
        notes.append(
            _(
                "A key that has been used very often has uses that are not recorded with their "
                "time; the charts miss them. There are too many keys to say how many these are."
            )
        )
    elif found.overused_keys:
        notes.append(
            ngettext(
                "%(number)s key has been used so often that not every use is recorded with its "
                "time. Its page counts them all; the charts miss some.",
                "%(number)s keys have been used so often that not every use is recorded with its "
                "time. Their pages count them all; the charts miss some.",
                found.overused_keys,
            )
            % {"number": number(found.overused_keys)}
        )
    if found.leaders.newest_only:
        notes.append(
            _("Clients and endpoints are ranked by the newest %(number)s conflicts of the period.")
            % {"number": number(NEWEST)}
            if found.dated
            else _("Clients and endpoints are ranked by the newest %(number)s keys of the period.")
            % {"number": number(NEWEST_KEYS)}
        )
    return notes


def _field_name(name: str) -> str:
    """Parts of a request that are not fields of its body begin with an @."""
    known = {
        "@method": _("method"),
        "@path": _("path"),
        "@query": _("query string"),
        "@content-type": _("media type"),
    }
    return known.get(name, name)
