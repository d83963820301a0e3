"""Keys and their history, for reading: a stored response that a person edits would be replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyKey, KeyEvent

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from ..models import IdempotencyKeyQuerySet

__all__ = ["IdempotencyKeyAdminMixin"]

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[IdempotencyKey]
else:
    _Base = object  # so that another admin's ModelAdmin can stand behind it

_SHOWN_BYTES = 20_000  # of a stored body
_PAYLOAD = "django_idempotency.view_payload"


class IdempotencyKeyAdminMixin(_Base):
    """Everything but the base class, so that it combines with another admin's ``ModelAdmin``."""

    list_display = (
        "key",
        "client",
        "request_line",
        "outcome",
        "replays",
        "conflicts",
        "created_at",
    )
    search_fields = ("key",)
    search_help_text = _("The whole key")
    list_filter = ("method",)
    list_per_page = 50
    ordering = ("-created_at",)
    show_full_result_count = False  # COUNT(*) is slow on the largest table of the site

    _facts = (
        *("key", "client", "request_line", "route", "outcome", "attempts", "replays", "conflicts"),
        *("created_at", "completed_at", "expires_at", "duration_ms", "remote_addr", "user_agent"),
        *("request_id", "fingerprint", "trace"),
    )
    _payload = ("response_headers_shown", "response_shown")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        allowed = request.user.has_perm(_PAYLOAD)
        return (*self._facts, *self._payload) if allowed else self._facts

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.get_fields(request, obj)

    def get_queryset(self, request: HttpRequest) -> IdempotencyKeyQuerySet:
        keys = cast("IdempotencyKeyQuerySet", super().get_queryset(request))
        return keys.with_counts()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyKey], search_term: str
    ) -> tuple[QuerySet[IdempotencyKey], bool]:
        term = search_term.strip().strip('"')
        if not term:
            return queryset, False
        pks = IdempotencyKey.objects.for_key(term).values("pk")
        return queryset.filter(pk__in=pks), False

    @admin.display(description=_("client"), ordering="scope")
    def client(self, key: IdempotencyKey) -> str:
        return key.scope

    @admin.display(description=_("request"), ordering="path")
    def request_line(self, key: IdempotencyKey) -> str:
        return f"{key.method} {key.path}"

    @admin.display(description=_("outcome"), ordering="response_status")
    def outcome(self, key: IdempotencyKey) -> Any:
        return _("unfinished") if key.response_status is None else key.response_status

    @admin.display(description=_("replays"), ordering="replays")
    def replays(self, key: Any) -> int:
        return int(key.replays)

    @admin.display(description=_("conflicting reuses"), ordering="conflicts")
    def conflicts(self, key: Any) -> int:
        return int(key.conflicts)

    @admin.display(description=_("trace"))
    def trace(self, key: IdempotencyKey) -> str:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} ms</td><td>{}</td>"
            "<td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    *(f"{event.at:%Y-%m-%d %H:%M:%S}", event.get_kind_display()),
                    *(event.status or "-", event.duration_ms),
                    *(event.remote_addr or "-", event.user_agent, event.request_id),
                    _spelled(event),
                )
                for event in key.events.all()
            ),
        )
        heads = [_("time"), _("kind"), _("status"), _("duration"), _("address")]
        heads += [_("user agent"), _("request id"), _("differences")]
        head = format_html_join("", "<th>{}</th>", ((name,) for name in heads))
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, rows)

    @admin.display(description=_("response headers"))
    def response_headers_shown(self, key: IdempotencyKey) -> str:
        pairs = json.loads(key.response_headers or "[]")
        return format_html("<pre>{}</pre>", "\n".join(f"{name}: {value}" for name, value in pairs))

    @admin.display(description=_("response body"))
    def response_shown(self, key: IdempotencyKey) -> Any:
        if key.response_body is None:
            return _("not stored")
        body = bytes(key.response_body)
        text = body[:_SHOWN_BYTES].decode("utf-8", "replace")
        return format_html("<pre>{}</pre><p>{} bytes</p>", text, len(body))


def _spelled(event: KeyEvent) -> str:
    if not event.differences:
        return ""
    changes = json.loads(event.differences)
    return ", ".join(f"{name} {change}" for name, change in changes.items())
