"""``Retry-After``, in both of its forms (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["retry_after"]

_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)  # the fraction is no HTTP, and is sent


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds the server asks us to wait, at least; ``None`` if it does not say.

    A date is compared with the answer's own ``Date`` where there is one, because the
    server's clock and ours may differ.
    """
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
