"""The ``IDEMPOTENCY`` setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import chain
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from django_idempotency.conf import Problem, Settings, get_settings, problems

__all__ = ["check_settings", "in_force"]


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: unknown setting. E002: bad value."""
    found = chain(problems(getattr(settings, "IDEMPOTENCY", {})), _elsewhere())
    return [
        checks.Error(
            problem.message,
            hint=problem.hint,
            id=f"django_idempotency.{'E001' if problem.unknown else 'E002'}",
        )
        for problem in found
    ]


def in_force() -> Settings:
    """The settings; the defaults while they are wrong, which is E001's or E002's matter."""
    wrong = any(problems(getattr(settings, "IDEMPOTENCY", {})))
    return Settings() if wrong else get_settings()


def _elsewhere() -> Iterator[Problem]:
    """Settings of ours outside the dict, where nobody reads them."""
    known = {f.name for f in fields(Settings)}
    for name in dir(settings):
        if "IDEMPOT" not in name or name == "IDEMPOTENCY":
            continue
        value, single = getattr(settings, name), name.removeprefix("DJANGO_")[len("IDEMPOTENCY_") :]
        if single in known:
            hint = f'Write IDEMPOTENCY = {{"{single}": ...}}.'
            yield Problem(name, f"Nobody reads the setting {name}.", hint, True)
        elif isinstance(value, Mapping) and known & set(value):
            hint = "Rename it to IDEMPOTENCY."
            yield Problem(name, f"Nobody reads the setting {name}.", hint, True)
