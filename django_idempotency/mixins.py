"""The way in for Django REST framework: where in the view's life we stand, nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import NotAcceptable
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.views import set_rollback

from .body import record_stream
from .conf import get_settings
from .content import default_fingerprint
from .exceptions import Undone
from .incoming import sent_key, settings_policy
from .placement import HOOKS, WITHOUT_INITIAL, refuse_mistakes
from .policy import Policy
from .redaction import redacted
from .respond import respond
from .responses import mark
from .scope import default_scope
from .transactions import atomic_requests, outside_tests, own_transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from .incoming import Idempotency

__all__ = ["IdempotentMixin"]

_NOT_STORABLE = (
    "With an idempotency key this view cannot answer in the browsable HTML form. Ask for "
    "another media type, or leave the key out."
)


class IdempotentMixin:
    """Makes the unsafe methods of a DRF view safe to retry; stands before the view class.

    It acts after ``initial()``: whoever is answered, with a first response or with a replay,
    has been authenticated, permitted and throttled. The attributes below narrow the
    ``IDEMPOTENCY`` setting for this view; the methods may be overridden.
    """

    idempotency_policy: Policy = Policy()
    """What the decorator sets; the attributes below go before it."""
    idempotency_required: bool | None = None
    idempotency_actions: Collection[str] | None = None
    """Actions, or handler names such as ``"post"``, to protect; None = all."""
    idempotency_retention: timedelta | None = None
    idempotency_anonymous: str | None = None
    idempotency_fingerprint_exclude: Collection[str] | None = None
    idempotency_in_flight: str | None = None
    idempotency_wait: timedelta | None = None
    idempotency_key_field: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_mistakes(cls, IdempotentMixin)

    # -- hooks

    def get_idempotency_scope(self, request: Request) -> str:
        """Whose key it is; requests share a key only within one scope."""
        return default_scope(request, anonymous=self.idempotency_anonymous)

    def get_idempotency_fingerprint(self, request: Request) -> str | bytes:
        """Everything that is compared: method, path, query, media type, version and body.

        Overridden, it may add to ``super()``'s 32 bytes, or leave it and compare less.
        """
        return default_fingerprint(request, exclude=self.idempotency_fingerprint_exclude or ())

    def can_replay(self, request: Request, key: Idempotency) -> bool:
        """Whether this client may still read the response: object permissions go here."""
        return True

    def rebuild_response(self, request: Request, key: Idempotency) -> HttpResponseBase | None:
        """The answer to a repeat in place of the stored one; None = the stored one."""
        return None

    def redact_request(self, data: Any) -> Any:
        """What may be kept of a parsed body, with ``RECORD_REQUEST="body"``."""
        return redacted(data, get_settings().REDACT)

    def redact_response(self, body: bytes, content_type: str) -> bytes | None:
        """What may be kept of a response's body; None = nothing, it is final all the same."""
        return body

    # -- where we stand

    if not TYPE_CHECKING:  # the signature is the view class's own

        @classmethod
        def as_view(cls, *args: Any, **kwargs: Any) -> Callable[..., Any]:
            return own_transactions(super().as_view(*args, **kwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        cast("Any", request).idempotency = None  # until there is a key, and it has been claimed
        parent = partial(cast("APIView", super()).dispatch, request, *args, **kwargs)
        keyed = self._carries_key(request)
        self._arm(request.method or "")
        if getattr(self, "view_is_async", False):
            return cast("HttpResponseBase", self._adispatch(request, parent, keyed=keyed))
        if not keyed:
            with atomic_requests():
                return parent()
        with outside_tests():
            return self._echoed(request, parent())

    async def _adispatch(self, request: HttpRequest, parent: Any, *, keyed: bool) -> Any:
        response = await parent()
        return self._echoed(request, response) if keyed else response

    def _carries_key(self, request: HttpRequest) -> bool:
        policy = self._policy(request.method or "")
        if policy is None:
            return False
        settings = get_settings()
        if settings.meta_name in request.META:
            record_stream(request)
            return True
        return bool(policy.key_field and policy.key_field in request.POST)

    def _echoed(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        settings, policy = get_settings(), self._policy(request.method or "")
        sent = sent_key(request, cast("Policy", policy), settings)
        return mark(response, cast("str", sent), settings)

    def handle_exception(self, exc: Exception) -> Any:
        """REST framework's, and the answer of a view that raised :class:`Undone`."""
        if isinstance(exc, Undone):
            set_rollback()
            return exc.response
        return cast("Any", super()).handle_exception(exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        cast("Any", super()).initial(request, *args, **kwargs)
        policy = self._policy(request.method or "")
        if policy is None:
            return
        name = cast("str", request.method).lower()
        if "_idempotency_handler" in self.__dict__:
            setattr(self, name, self._idempotency_handler)
        handler = getattr(self, name)
        run = self._arun if iscoroutinefunction(handler) else self._run
        setattr(self, name, partial(run, handler, policy))

    def _arm(self, method: str) -> None:
        """Let the handler refuse to run, unprotected as it is, until initial() has been here."""
        if self._policy(method) is not None:
            self._idempotency_handler = getattr(self, method.lower())
            setattr(self, method.lower(), self._refuse)

    def _refuse(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # With DEBUG REST framework asks for it even when it cannot answer.
        found = cast("Any", self).perform_content_negotiation(request, force=True)
        request.accepted_renderer, request.accepted_media_type = found
        raise ImproperlyConfigured(WITHOUT_INITIAL.format(name=type(self).__name__))

    def _policy(self, method: str) -> Policy | None:
        """The policy of the handler that a method leads to; None = not protected."""
        if "_idempotency_found" not in self.__dict__:
            self._idempotency_found = self._find_policy(method)
        return self._idempotency_found

    def _find_policy(self, method: str) -> Policy | None:
        settings = get_settings()
        handler = getattr(self, method.lower(), None)
        if method not in settings.METHODS or handler is None:
            return None  # without a handler dispatch() answers 405
        name = (getattr(self, "action_map", None) or {}).get(method.lower(), method.lower())
        chosen: Policy | None = getattr(handler, "idempotency_policy", None)
        listed = self.idempotency_actions is None or name in self.idempotency_actions
        if chosen is None and not listed:
            return None
        own, decorated = self._own_policy(), self.idempotency_policy
        return (chosen or own).over(own, decorated, settings_policy(settings))

    def _own_policy(self) -> Policy:
        cls = type(self)
        own = {
            f.name: getattr(self, f"idempotency_{f.name}", None)
            for f in fields(Policy)
            if f.name not in HOOKS
        }
        for field, hook in HOOKS.items():
            if getattr(cls, hook) is not getattr(IdempotentMixin, hook):
                own[field] = getattr(self, hook)
        return Policy(**own)

    def _run(
        self,
        handler: Callable[..., Any],
        policy: Policy,
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        view = cast("Any", self)
        keyed = self._carries_key(cast("Any", request)._request)
        if keyed and isinstance(request.accepted_renderer, BrowsableAPIRenderer):
            _choose_storable(view, request)
        finish = view.finalize_response
        response = respond(
            request,
            partial(handler, request, *args, **kwargs),
            policy,
            name=".".join(filter(None, (type(self).__name__, getattr(self, "action", None)))),
            finish=lambda response: finish(request, response, *args, **kwargs),
            answer=partial(self._answer, request),
        )
        if keyed:
            # It is finalised and rendered, or a replay that was; once is enough.
            view.finalize_response = lambda request, response, *args, **kwargs: response
        return response

    async def _arun(
        self,
        handler: Callable[..., Any],
        policy: Policy,
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        def run() -> HttpResponseBase:
            with ExitStack() as stack:
                if not self._carries_key(cast("Any", request)._request):
                    stack.enter_context(atomic_requests())
                return self._run(async_to_sync(handler), policy, request, *args, **kwargs)

        return await sync_to_async(run)()

    def _answer(self, request: Request, error: Exception) -> HttpResponseBase | None:
        try:
            return cast("HttpResponseBase", cast("Any", self).handle_exception(error))
        except Exception as unhandled:
            if unhandled is not error:
                raise
            return None


def _choose_storable(view: Any, request: Request) -> None:
    """Never store the browsable API's page: it holds a CSRF token and the reader's name."""
    for renderer in view.get_renderers():
        if not isinstance(renderer, BrowsableAPIRenderer):
            request.accepted_renderer = renderer
            request.accepted_media_type = renderer.media_type
            return
    raise NotAcceptable(_NOT_STORABLE)
