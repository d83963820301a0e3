"""Values that must not be kept or shown, known by the names of their fields."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["REDACTED", "is_sensitive", "redacted"]

REDACTED = "[redacted]"  # stands for a value that is not kept, or not shown


def is_sensitive(name: str, patterns: Collection[str]) -> bool:
    """Whether the value of a field or header with this name must not be kept or shown."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def redacted(data: Any, patterns: Collection[str]) -> Any:
    """``data`` with the values of fields whose name matches a pattern replaced."""
    if isinstance(data, dict):
        return {
            name: REDACTED if is_sensitive(name, patterns) else redacted(value, patterns)
            for name, value in data.items()
        }
    return [redacted(item, patterns) for item in data] if isinstance(data, list) else data
