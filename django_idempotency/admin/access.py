"""Who may see and do what. Nobody may write: an edited response would be replayed as truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse

from django_idempotency.models import IdempotencyKey

if TYPE_CHECKING:
    from django.http import HttpRequest

    Base = admin.ModelAdmin[IdempotencyKey]
else:
    Base = object  # so that another admin's ModelAdmin can stand behind the mixins

__all__ = ["AccessMixin", "Base"]

_DATES = ("gte", "lt", "year", "month", "day")


class AccessMixin(Base):
    """Reading needs ``view_idempotencykey``; each further thing its own permission."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Bodies, header values and field values, wherever they would appear."""
        return self._may(request, "view_payload")

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "forget_key")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "export")

    def _may(self, request: HttpRequest, codename: str) -> bool:
        allowed = request.user.has_perm(f"{self.opts.app_label}.{codename}")
        return allowed and self.has_view_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Filters and dates only.

        Django allows lookups on any column of the model itself, and
        ``?response_body__contains=`` would tell what is in a body to those who may not see it.
        """
        parameters = {getattr(spec, "parameter_name", None) for spec in self.list_filter}
        return lookup in parameters or lookup in {f"created_at__{part}" for part in _DATES}

    def desk_url(self, page: str, *args: object) -> str:
        """The address of one of our pages, on whatever admin site we are registered."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name)
