"""Intents, for reading: the unresolved first, the oldest on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _

from .models import OutboundIntent, OutboundIntentQuerySet

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    _Base = admin.ModelAdmin[OutboundIntent]
else:
    _Base = object  # so that another admin's ModelAdmin can stand behind it

__all__ = ["OutboundIntentAdmin", "OutboundIntentAdminMixin"]

_SHOWN_ERROR = 80  # characters, in the list


class ResolvedFilter(admin.SimpleListFilter):
    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("unresolved", _("Unresolved")), ("resolved", _("Resolved"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if not isinstance(queryset, OutboundIntentQuerySet) or self.value() is None:
            return queryset
        return queryset.unresolved() if self.value() == "unresolved" else queryset.resolved()


class OutboundIntentAdminMixin(_Base):
    """Everything but the base class, so that it combines with another admin's ``ModelAdmin``."""

    list_display: Any = (
        *("purpose", "target_name", "state", "age", "attempts", "last_error_start", "key"),
    )
    list_filter = (ResolvedFilter, "state", "purpose", "created_at")
    list_select_related = ("content_type",)
    list_per_page = 50
    ordering = (F("resolved_at").desc(nulls_first=True), "created_at")
    search_fields = ("=key", "=object_id")
    search_help_text = _("The whole key, or the primary key of the object")

    _facts = (
        *("purpose", "target_name", "key", "state", "age", "attempts", "created_at"),
        *("first_sent_at", "last_attempt_at", "next_attempt_at", "resolved_at", "last_error"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        return self._with_link(request, self.list_display)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._with_link(request, self._facts)

    get_readonly_fields = get_fields

    def _with_link(self, request: HttpRequest, names: tuple[Any, ...]) -> tuple[Any, ...]:
        """The columns, with a link to the object for those who may follow it."""

        @admin.display(description=_("object"), ordering="object_id")
        def target_name(intent: OutboundIntent) -> str:
            name = self.target_name(intent)
            url = _url(intent, request, self.admin_site)
            return format_html('<a href="{}">{}</a>', url, name) if url else name

        link: Callable[..., Any] = target_name
        return tuple(link if name == "target_name" else name for name in names)

    @admin.display(description=_("object"), ordering="object_id")
    def target_name(self, intent: OutboundIntent) -> str:
        return f"{intent.content_type.name} {intent.object_id}"  # without a query for each

    @admin.display(description=_("age"), ordering="created_at")
    def age(self, intent: OutboundIntent) -> str:
        """Since it was stored; of a resolved one, until it was resolved."""
        return timesince(intent.created_at, intent.resolved_at or timezone.now())

    @admin.display(description=_("last error"))
    def last_error_start(self, intent: OutboundIntent) -> str:
        return Truncator(intent.last_error).chars(_SHOWN_ERROR)


def _url(intent: OutboundIntent, request: HttpRequest, site: admin.AdminSite) -> str | None:
    """Where this site shows the object to this viewer, if it does."""
    model = intent.content_type.model_class()
    if model is None or not site.is_registered(model):
        return None
    if not site.get_model_admin(model).has_view_permission(request):
        return None
    name = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
    return reverse(name, args=[quote(intent.object_id)])


@admin.register(OutboundIntent)
class OutboundIntentAdmin(OutboundIntentAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The stock registration."""
