"""The ``IDEMPOTENCY`` setting."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from django_idempotency.conf import problems

__all__ = ["check_settings"]


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: unknown setting. E002: bad value."""
    return [
        checks.Error(
            problem.message,
            hint=problem.hint,
            id=f"django_idempotency.{'E001' if problem.unknown else 'E002'}",
        )
        for problem in problems(getattr(settings, "IDEMPOTENCY", {}))
    ]
