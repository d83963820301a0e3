"""The desk on a site that uses django-unfold: the mixin in front of its ``ModelAdmin``."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from unfold.admin import ModelAdmin

from django_idempotency.admin import IdempotencyKeyAdminMixin
from django_idempotency.models import IdempotencyKey

admin.site.unregister(IdempotencyKey)


@admin.register(IdempotencyKey)
class KeyAdmin(IdempotencyKeyAdminMixin, ModelAdmin):
    pass


urlpatterns = [path("admin/", admin.site.urls)]
