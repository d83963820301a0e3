"""The mixin that makes a ``ModelAdmin`` a desk for keys: what is shown where, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.urls import path
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import get_settings
from django_idempotency.models import IdempotencyKey

from . import filters, marks, story
from .actions import ActionsMixin
from .changelist import CappedPaginator, change_list_class
from .detail import DetailMixin
from .overview import OverviewMixin
from .search import Found, find
from .spelling import age, exact

if TYPE_CHECKING:
    from collections.abc import Hashable

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

    from django_idempotency.models import IdempotencyKeyQuerySet

    from .changelist import ListedKey

__all__ = ["IdempotencyKeyAdminMixin"]

_TEMPLATES = "admin/django_idempotency/idempotencykey"


class IdempotencyKeyAdminMixin(ActionsMixin, DetailMixin, OverviewMixin):
    """Everything but the base class, so that it combines with another admin's ``ModelAdmin``."""

    change_list_template = f"{_TEMPLATES}/change_list.html"
    # No column may be named "request": django-unfold calls its columns with one.
    list_display = ("key_seen", "outcome", "asked", "client", "uses", "replays", "conflicts")
    list_display_links = ("key_seen",)
    list_filter = (
        filters.StateFilter,
        filters.ConflictsFilter,
        filters.ReplayedFilter,
        filters.ResponseFilter,
        filters.MethodFilter,
        filters.SinceFilter,
        filters.ClientFilter,
        filters.EndpointFilter,
    )
    search_fields = ("key",)  # shows the box; get_search_results() does the work
    search_help_text = _(
        "A whole key, a client or user name, a request id, or the beginning of a path."
    )
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    list_per_page = 50
    list_max_show_all = 200
    paginator = CappedPaginator
    show_full_result_count = False  # COUNT(*) is slow on the largest table of the site
    show_facets = admin.ShowFacets.NEVER  # as above, once per filter

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_overview"
        view = self.admin_site.admin_view(self.overview_view)
        return [path("overview/", view, name=name), *super().get_urls()]

    # -- the list

    def get_queryset(self, request: HttpRequest) -> IdempotencyKeyQuerySet:
        return cast("IdempotencyKeyQuerySet", super().get_queryset(request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return change_list_class(cast("Hashable", super().get_changelist(request, **kwargs)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyKey], search_term: str
    ) -> tuple[QuerySet[IdempotencyKey], bool]:
        return queryset.filter(self.found(request, search_term).condition), False

    def found(self, request: HttpRequest, search_term: str) -> Found:
        """What a term means, found out once a request: the list asks twice."""
        known: dict[str, Found] = request.__dict__.setdefault("_idempotency_found", {})
        term = search_term.strip()
        if term not in known:
            known[term] = find(self.get_queryset(request), term)
        return known[term]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {
            "title": capfirst(self.opts.verbose_name_plural),
            "legend": marks.legend(),
        }
        if request.method == "GET":  # an action's question has no tiles
            context |= self.tiles_context(request)
        return super().changelist_view(request, context | (extra_context or {}))

    @admin.display(description=_("key"), ordering="created_at")
    def key_seen(self, key: ListedKey) -> SafeString:
        return format_html(
            '<code class="idem-key" title="{}">{}</code>'
            '<time class="idem-sub" datetime="{}" title="{}">{}</time>',
            key.key,
            key.key,
            key.created_at.isoformat(),
            exact(key.created_at),
            age(key.created_at, key.now),
        )

    @admin.display(description=_("outcome"))
    def outcome(self, key: ListedKey) -> SafeString:
        return marks.badge(self._life(key).state, key.response_status)

    @admin.display(description=_("asked for"))
    def asked(self, key: IdempotencyKey) -> SafeString:
        return format_html(
            '<span class="idem-method">{}</span> <code class="idem-path" title="{}">{}</code>',
            key.method,
            key.path,
            key.path,
        )

    @admin.display(description=_("client"))
    def client(self, key: ListedKey) -> SafeString:
        name, scope = key.client.name, key.client.scope
        cut = '<span class="idem-client" title="{}">{}</span>'
        if not name:
            return format_html(cut, scope, scope)
        sub = '<span class="idem-client idem-sub" title="{}">{}</span>'
        return format_html(cut + sub, name, name, scope, scope)

    @admin.display(description=_("uses"))
    def uses(self, key: ListedKey) -> SafeString:
        return marks.strip_svg(story.strip(self._life(key), key.first_events))

    @admin.display(description=_("replays"), ordering=filters.tallied("replay_count"))
    def replays(self, key: IdempotencyKey) -> SafeString:
        return marks.number(key.replay_count)

    @admin.display(description=_("conflicts"), ordering=filters.tallied("conflict_count"))
    def conflicts(self, key: IdempotencyKey) -> SafeString:
        return marks.number(key.conflict_count, "idem-count-bad")

    def _life(self, key: ListedKey) -> story.Life:
        return story.life_of(key, now=key.now, settings=get_settings())
