"""The page of one key: what happened to it, what differed, what was answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_idempotency.clock import DatabaseNow
from django_idempotency.conf import get_settings

from . import marks, story
from .access import AccessMixin
from .clients import clients_of
from .compare import Change, Row, changes, side_by_side
from .curl import repeat
from .payload import (
    Record,
    content_of,
    content_of_document,
    download_of,
    headers_of,
    record_of,
)
from .spelling import offset, size
from .timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest, HttpResponseBase
    from django.urls import URLPattern
    from django.utils.functional import _StrPromise as StrPromise

    from django_idempotency.models import IdempotencyKey, KeyEvent

    from .changelist import ListedKey

__all__ = ["DetailMixin"]

COMPARED = 5  # conflicts whose bodies are compared in full; the others name their fields


_INDEX = re.compile(r"\[\d+\]")
_VIEWED = gettext_lazy("Viewed the stored payload.")
_DOWNLOADED = gettext_lazy("Downloaded the stored response.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One conflicting reuse: who, and what was different."""

    event: KeyEvent
    title: str
    offset: str
    changes: list[Change]
    rows: list[Row]  # empty where bodies are not kept, or may not be seen
    earlier: bool  # before the key was used anew: against another first request


class DetailMixin(AccessMixin):
    """A page instead of a form, and the stored response as a file."""

    detail_template = "admin/django_idempotency/idempotencykey/detail.html"

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_response"
        view = self.admin_site.admin_view(self.response_view)
        return [path("<path:object_id>/response/", view, name=name), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the key. What is asked of it here is only to be read."""
        if request.method not in {"GET", "HEAD"} or not self.has_view_permission(request):
            raise PermissionDenied
        key = self._key(request, object_id)
        if key is None:
            messages.warning(request, _("There is no such key. It was purged or forgotten."))
            return redirect(self.desk_url("changelist"))
        request.current_app = self.admin_site.name
        context = self._page(request, key) | (extra_context or {})
        return TemplateResponse(request, self.detail_template, context)

    def response_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The stored body as a file that no browser takes for anything else."""
        if not self.has_payload_permission(request):
            raise PermissionDenied
        key = self._key(request, object_id)
        if key is None or key.response_body is None:
            raise Http404
        self._log_view(request, key, _DOWNLOADED)
        content = download_of(key.response_body, headers_of(key.response_headers))
        return HttpResponse(
            content,
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="response-{key.pk.hex[:12]}.bin"',
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "sandbox",
            },
        )

    def _key(self, request: HttpRequest, object_id: str) -> ListedKey | None:
        """The key with its tally and the database's clock; None = there is none."""
        keys = self.get_queryset(request).select_related("tally").annotate(now=DatabaseNow())
        try:
            return cast("ListedKey | None", keys.filter(pk=unquote(object_id)).first())
        except (ValidationError, ValueError):
            return None

    def _page(self, request: HttpRequest, key: ListedKey) -> dict[str, Any]:
        life = story.life_of(key, now=key.now, settings=get_settings())
        may_see = self.has_payload_permission(request)
        events = list(key.events.all() if may_see else key.events.defer("request_record"))
        context = {
            **self.admin_site.each_context(request),
            "title": key.key,
            "opts": self.opts,
            "media": self.media,
            "key": key,
            "life": life,
            "badge": marks.badge(life.state, key.response_status),
            "status": marks.status_badge(key.response_status),
            "sentence": story.sentence(life),
            "moments": [
                (moment, marks.dot(moment.mark), marks.status_badge(moment.status))
                for moment in timeline(life, key, events)
            ],
            "strip": marks.strip_svg(story.strip(life, events, limit=40)),
            "client": clients_of([key.scope], self.admin_site, request)[key.scope],
            "others_url": f"{self.desk_url('changelist')}?{urlencode({'client': key.scope})}",
            "list_url": self.desk_url("changelist"),
            "history_url": self.desk_url("history", key.pk),
            "may_see_payload": may_see,
            "may_forget": self.has_forget_permission(request),
            "may_export": self.has_export_permission(request),
        }
        return context | self._payload(request, key, events, life, may_see=may_see)

    def _payload(
        self,
        request: HttpRequest,
        key: ListedKey,
        events: Sequence[KeyEvent],
        life: story.Life,
        *,
        may_see: bool,
    ) -> dict[str, Any]:
        """What needs a permission of its own, or what remains of it without."""
        record = record_of(key.request_record, with_body=may_see)
        conflicts = _conflicts(events, record, life)
        origin = f"{request.scheme}://{request.get_host()}"
        shown: dict[str, Any] = {
            "conflicts": conflicts,
            "field_names": _field_names(record),
            "repeat": repeat(key, origin, record, may_see=may_see),
        }
        if not may_see:
            return shown
        headers = headers_of(key.response_headers)
        content = content_of(key.response_body, headers)
        if key.completed_at is not None or record.has_body:
            self._log_view(request, key, _VIEWED)
        return shown | {
            "record": record,
            "request_content": content_of_document(record.body) if record.has_body else None,
            "headers": headers,
            "content": content,
            "content_size": size(content.size),
            "response_url": self.desk_url("response", key.pk),
        }

    def _log_view(self, request: HttpRequest, key: IdempotencyKey, message: StrPromise) -> None:
        # In the site's language: others will read it.
        with translation.override(settings.LANGUAGE_CODE):
            self.log_change(request, key, str(message))


def _field_names(record: Record) -> list[str]:
    """What was sent, without what is no field; the items of a list once."""
    names = (_INDEX.sub("[]", name) for name in record.names if not name.startswith("@"))
    return list(dict.fromkeys(names))


def _conflicts(events: Sequence[KeyEvent], record: Record, life: story.Life) -> list[Conflict]:
    found: list[Conflict] = []
    for event in events:
        if event.kind != story.Mark.CONFLICT:
            continue
        earlier = event.at < life.created_at
        compared = len(found) < COMPARED and record.has_body and not earlier
        theirs = record_of(event.request_record) if compared else Record()
        mine = record if theirs.has_body else Record()
        told = changes(event.differences, mine, theirs)
        rows = side_by_side(mine.body, theirs.body) if theirs.has_body else []
        title = ngettext("%(count)d field differs", "%(count)d fields differ", len(told))
        found.append(
            Conflict(
                event=event,
                title=title % {"count": len(told)} if told else _("Different requests"),
                offset=offset(event.at - life.created_at),
                changes=told,
                rows=rows,
                earlier=earlier,
            )
        )
    return found
