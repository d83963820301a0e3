"""What may be done to keys: each asks first, needs its permission and leaves a log entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from django_idempotency import upkeep
from django_idempotency.conf import get_settings
from django_idempotency.models import IdempotencyKey

from .access import AccessMixin
from .export import csv_response

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.functional import _StrPromise as StrPromise

    Keys = QuerySet[IdempotencyKey]

__all__ = ["ActionsMixin"]

AT_ONCE = 500  # keys that may be forgotten or expired together: each row stays locked meanwhile
EXPORTED = 10_000  # keys in one file
EXPORTED_WITH_BODIES = 1_000
NAMED = 20  # keys that the question lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that may be done to keys, and how it is spoken of."""

    name: str  # of the action
    run: Callable[[Collection[UUID]], upkeep.Done]
    flag: int  # of the log entry
    logged: StrPromise
    question: StrPromise
    button: StrPromise


_FORGET = Change(
    name="forget_keys",
    run=upkeep.forget,
    flag=DELETION,
    logged=gettext_lazy("Forgot the key with its history: its next request executes."),
    question=ngettext_lazy("Forget this key?", "Forget these keys?"),
    button=gettext_lazy("Forget, and allow a second execution"),
)
_EXPIRE = Change(
    name="expire_keys",
    run=upkeep.expire,
    flag=CHANGE,
    logged=gettext_lazy("Expired the key before its time."),
    question=ngettext_lazy("Expire this key now?", "Expire these keys now?"),
    button=gettext_lazy("Expire now"),
)
_EXPORTED = gettext_lazy("Exported.")
_EXPORTED_PAYLOAD = gettext_lazy("Exported with the stored payload.")


class ActionsMixin(AccessMixin):
    actions = ("forget_keys", "expire_keys", "export_keys")
    confirm_template = "admin/django_idempotency/idempotencykey/confirm.html"

    @admin.action(description=gettext_lazy("Forget keys…"), permissions=("forget",))
    def forget_keys(self, request: HttpRequest, queryset: Keys) -> HttpResponse | None:
        return self._change(request, queryset, _FORGET)

    @admin.action(description=gettext_lazy("Expire keys now…"), permissions=("forget",))
    def expire_keys(self, request: HttpRequest, queryset: Keys) -> HttpResponse | None:
        return self._change(request, queryset, _EXPIRE)

    @admin.action(description=gettext_lazy("Export keys as CSV…"), permissions=("export",))
    def export_keys(self, request: HttpRequest, queryset: Keys) -> HttpResponse | None:
        asked_bodies = "bodies" in request.POST
        if asked_bodies and not self.has_payload_permission(request):
            raise PermissionDenied
        limit = EXPORTED_WITH_BODIES if asked_bodies else EXPORTED
        keys = self._chosen(request, queryset, limit)
        if keys is None:
            return None
        if request.POST.get("confirmed") != "yes":
            return self._ask(
                request,
                keys,
                action="export_keys",
                question=ngettext("Export this key?", "Export these keys?", len(keys)),
                button=_("Export as CSV"),
                may_choose_bodies=self.has_payload_permission(request),
                limit_with_bodies=EXPORTED_WITH_BODIES,
            )
        self._log(request, keys, CHANGE, _EXPORTED_PAYLOAD if asked_bodies else _EXPORTED)
        rows = self.get_queryset(request).filter(pk__in=[key.pk for key in keys])
        return csv_response(rows, bodies=asked_bodies)

    def response_action(
        self, request: HttpRequest, queryset: Keys, *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """As Django's, which fails on an id that is none."""
        across = request.POST.get("select_across") == "1"
        if not across and not all(map(_is_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            messages.error(request, _("There is no such key."))
            return redirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    # -- question, deed, report

    def _change(self, request: HttpRequest, queryset: Keys, change: Change) -> HttpResponse | None:
        keys = self._chosen(request, queryset, AT_ONCE)
        if keys is None:
            return None
        if request.POST.get("confirmed") != "yes":
            return self._ask(
                request,
                keys,
                action=change.name,
                question=change.question % len(keys),
                button=change.button,
                reusable=get_settings().ON_EXPIRED == "execute",
            )
        with transaction.atomic(using=router.db_for_write(LogEntry)):
            done = change.run([key.pk for key in keys])
            changed = [key for key in keys if key.pk in done.changed]
            self._log(request, changed, change.flag, change.logged)
        self._report(request, change, done)
        # Not back to the page of a key that is gone.
        return redirect(self.desk_url("changelist"))

    def _ask(
        self, request: HttpRequest, keys: Sequence[IdempotencyKey], **context: Any
    ) -> HttpResponse:
        across = request.POST.get("select_across") == "1"
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            self.confirm_template,
            {
                **self.admin_site.each_context(request),
                "title": context["question"],
                "opts": self.opts,
                "media": self.media,
                "count": len(keys),
                "keys": keys[:NAMED],
                "more": max(len(keys) - NAMED, 0),
                "ids": [] if across and context["action"] == "export_keys" else keys,
                "checkbox_name": ACTION_CHECKBOX_NAME,
                "list_url": self.desk_url("changelist"),
                **context,
            },
        )

    def _chosen(
        self, request: HttpRequest, queryset: Keys, limit: int
    ) -> list[IdempotencyKey] | None:
        """The keys, without what is heavy; None, and a message, if nothing can be done."""
        light = queryset.prefetch_related(None).select_related(None)
        keys = list(light.only("key", "scope", "method", "path", "created_at")[: limit + 1])
        if not keys:
            messages.warning(request, _("The keys are gone already."))
        elif len(keys) > limit:
            text = ngettext(
                "At most %(limit)d key at once. Choose fewer.",
                "At most %(limit)d keys at once. Choose fewer.",
                limit,
            )
            messages.error(request, text % {"limit": limit})
        return keys if 0 < len(keys) <= limit else None

    def _report(self, request: HttpRequest, change: Change, done: upkeep.Done) -> None:
        count = len(done.changed)
        if count:
            if change is _FORGET:
                text = ngettext("Forgot %(count)d key.", "Forgot %(count)d keys.", count)
            else:
                text = ngettext("Expired %(count)d key.", "Expired %(count)d keys.", count)
            messages.success(request, text % {"count": count})
        if done.held:
            text = ngettext(
                "%(count)d key is in use by a request and was left alone. Try again shortly.",
                "%(count)d keys are in use by requests and were left alone. Try again shortly.",
                len(done.held),
            )
            messages.error(request, text % {"count": len(done.held)})
        if done.idle:
            text = ngettext(
                "%(count)d key had nothing to expire: it is free, or has expired already.",
                "%(count)d keys had nothing to expire: they are free, or have expired already.",
                len(done.idle),
            )
            messages.warning(request, text % {"count": len(done.idle)})
        if not (count or done.held or done.idle):
            messages.warning(request, _("The keys are gone already."))

    def _log(
        self,
        request: HttpRequest,
        keys: Sequence[IdempotencyKey],
        flag: int,
        message: StrPromise,
    ) -> None:
        with translation.override(settings.LANGUAGE_CODE):  # others will read it
            LogEntry.objects.log_actions(
                user_id=cast("int", request.user.pk),
                queryset=keys,
                action_flag=flag,
                change_message=str(message),
            )


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
