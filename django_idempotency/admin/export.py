"""Keys as a CSV file that a spreadsheet opens without executing anything in it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from django.http import HttpResponse
from django.utils import timezone

from django_idempotency.clock import DatabaseNow
from django_idempotency.conf import get_settings

from .payload import content_of, headers_of
from .story import life_of

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_idempotency.models import IdempotencyKey

    from .changelist import ListedKey

__all__ = ["csv_response", "safe"]

_LONGEST = 32_000  # characters of a cell; spreadsheets stop at 32,767
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_COLUMNS = (
    *("key", "client", "method", "path", "endpoint", "state", "status", "attempts", "replays"),
    *("conflicts", "refused_in_flight", "failures", "first_seen", "completed", "expires"),
    *("duration_ms", "address", "user_agent", "request_id"),
)
_PAYLOAD = ("response_headers", "response_body")
_CHUNK = 100  # rows, and so bodies, in memory


def csv_response(keys: QuerySet[IdempotencyKey], *, bodies: bool) -> HttpResponse:
    """A file with a line for each key; headers and bodies as the page shows them."""
    name = f"idempotency-keys-{timezone.now():%Y%m%d-%H%M%S}.csv"
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        },
    )
    writer = csv.writer(response)
    writer.writerow((*_COLUMNS, *_PAYLOAD) if bodies else _COLUMNS)
    rows = keys.select_related("tally").annotate(now=DatabaseNow()).order_by("-created_at", "pk")
    if not bodies:
        rows = rows.defer("response_body", "response_headers", "request_record")
    for row in rows.iterator(chunk_size=_CHUNK):
        key = cast("ListedKey", row)
        cells = [*_cells(key), *(_payload(key) if bodies else ())]
        writer.writerow([safe(cell) for cell in cells])
    return response


def safe(value: object) -> object:
    """A cell that begins like a formula is made text; numbers stay numbers."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}")[:_LONGEST]
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text


def _cells(key: ListedKey) -> Iterator[object]:
    life = life_of(key, now=key.now, settings=get_settings())
    yield from (key.key, key.scope, key.method, key.path, key.route, life.state.value)
    yield from (key.response_status, key.attempts, life.replays, life.conflicts)
    yield from (life.in_flight, life.failures)
    for moment in (key.created_at, key.completed_at, key.expires_at):
        yield None if moment is None else moment.isoformat()
    yield from (key.duration_ms, key.remote_addr, key.user_agent, key.request_id)


def _payload(key: ListedKey) -> Iterator[str]:
    headers = headers_of(key.response_headers)
    yield "\n".join(f"{header.name}: {header.value}" for header in headers)
    content = content_of(key.response_body, headers)
    if content.kind == "binary":
        yield f"({content.size} bytes, SHA-256 {content.digest})"
    else:
        yield "".join(token.text for token in content.tokens)
