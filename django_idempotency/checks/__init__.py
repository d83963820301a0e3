"""``manage.py check``: settings, the database and the places where protection was put."""

from __future__ import annotations

from django.core import checks

from .configuration import check_settings
from .databases import check_database, check_engine
from .views import check_views

__all__ = ["check_database", "check_engine", "check_settings", "check_views", "register"]


def register() -> None:
    checks.register(check_settings, "django_idempotency")
    checks.register(check_views, "django_idempotency")
    checks.register(check_database, checks.Tags.database)
    checks.register(check_engine, "django_idempotency")
