"""Keys and their history, for people: what happened, what differed, what is stuck.

Registered on Django's own admin site. Elsewhere, combine the mixin with that site's
``ModelAdmin``: ``class KeyAdmin(IdempotencyKeyAdminMixin, ModelAdmin)``.
"""

from __future__ import annotations

from django.contrib import admin

from django_idempotency.models import IdempotencyKey

from .desk import IdempotencyKeyAdminMixin

__all__ = ["IdempotencyKeyAdmin", "IdempotencyKeyAdminMixin"]


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(IdempotencyKeyAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """The stock registration."""
