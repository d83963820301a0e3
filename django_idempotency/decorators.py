"""The way in for functions: above ``@api_view``, on plain and async views, on one action."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from http import HTTPStatus
from inspect import isawaitable
from types import FunctionType
from typing import Any, TypeVar, cast, overload

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import (
    BadRequest,
    ImproperlyConfigured,
    PermissionDenied,
    SuspiciousOperation,
)
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from .body import record_stream
from .conf import Settings, get_settings
from .exceptions import Undone
from .foreign import as_operation
from .incoming import settings_policy
from .mixins import IdempotentMixin
from .placement import (
    BELOW_API_VIEW,
    NEEDS_MIXIN,
    NO_REQUEST,
    ON_CLASS,
    ON_DISPATCH,
    ON_OPERATION,
    TWICE,
    WITHOUT_MIXIN,
    cure_for,
)
from .policy import Policy
from .respond import respond
from .responses import NOT_RAISED
from .transactions import atomic_requests, own_transactions

__all__ = ["idempotent"]

V = TypeVar("V", bound=Callable[..., Any])

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (Http404, HTTPStatus.NOT_FOUND),
    (PermissionDenied, HTTPStatus.FORBIDDEN),
    (BadRequest, HTTPStatus.BAD_REQUEST),
    (SuspiciousOperation, HTTPStatus.BAD_REQUEST),
)


@overload
def idempotent(view: V, /) -> V: ...
@overload
def idempotent(**policy: Any) -> Callable[[V], V]: ...
def idempotent(view: V | None = None, /, **policy: Any) -> V | Callable[[V], V]:
    """Make a view safe to retry: ``@idempotent`` or ``@idempotent(required=True)``.

    The view runs in one database transaction. Return a response to make it final; raise to
    roll back and leave the key free. On a method of a view with ``IdempotentMixin`` it sets
    the policy of that method or action, and the mixin acts.

    Args:
        view: a Django view, sync or async; the result of ``@api_view`` or ``as_view()``; or
            a method of a DRF view.
        policy: any field of :class:`policy.Policy`, such as ``required``, ``retention``
            (``timedelta``), ``scope``, ``anonymous``, ``fingerprint``, ``in_flight``.

    Raises:
        TypeError: an unknown policy field, a value it cannot have, or a class was decorated.
    """
    chosen = Policy.checked(policy)

    def decorate(view: V) -> V:
        return cast("V", _decorated(view, chosen))

    return decorate if view is None else decorate(view)


def _decorated(view: Any, policy: Policy) -> Any:
    if isinstance(view, type):
        raise TypeError(ON_CLASS.format(cure=cure_for(view)))
    if not callable(view):
        what = reprlib.repr(view)
        msg = f"@idempotent decorates views, not {what}; its arguments have names: required=True."
        raise TypeError(msg)
    cls = getattr(view, "cls", None)
    _refuse_second(view, cls)
    if isinstance(cls, type) and issubclass(cls, APIView):
        return _as_mixin(view, cls, policy)
    if hasattr(view, "_ninja_operation"):
        raise TypeError(ON_OPERATION.format(name=view.__qualname__))
    if _is_method(view):
        return _marked(view, policy)
    return _wrapped(view, policy)


def _refuse_second(view: Any, cls: Any) -> None:
    mixed = isinstance(cls, type) and issubclass(cls, IdempotentMixin)
    if mixed and "idempotency_policy" not in vars(cls):
        cure = "Its policy stands in attributes of the class, such as idempotency_required."
        raise TypeError(TWICE.format(name=cls.__name__, cure=cure))
    if mixed or hasattr(view, "idempotency_policy"):
        name = cls.__name__ if mixed else getattr(view, "__qualname__", repr(view))
        raise TypeError(TWICE.format(name=name, cure="One @idempotent takes all arguments."))


def _as_mixin(view: Any, cls: type[APIView], policy: Policy) -> Any:
    """A DRF view function: the same class with the mixin before it."""
    body = {"idempotency_policy": policy, "__module__": cls.__module__, "__doc__": cls.__doc__}
    mixed = type(cls.__name__, (IdempotentMixin, cls), body)
    actions = (view.actions,) if hasattr(view, "actions") else ()
    return mixed.as_view(*actions, **view.initkwargs)  # type: ignore[attr-defined]


def _is_method(view: Any) -> bool:
    """Whether this is a function in a class body, still without its instance."""
    while isinstance(view, FunctionType) and hasattr(view, "__wrapped__"):
        view = cast("Any", view).__wrapped__
    # method_decorator passes a partial of a bound method: that has its instance.
    return isinstance(view, FunctionType) and view.__code__.co_varnames[:1] == ("self",)


def _marked(method: Any, policy: Policy) -> Any:
    """A method of a DRF view: carries its policy; the mixin acts, or it refuses to run."""

    def ensure_mixin(view: Any) -> None:
        if not isinstance(view, IdempotentMixin):
            msg = WITHOUT_MIXIN.format(
                asks=f"{method.__qualname__} is marked @idempotent", cure=cure_for(type(view))
            )
            raise ImproperlyConfigured(msg)

    @wraps(method)
    def marked(self: Any, *args: Any, **kwargs: Any) -> Any:
        ensure_mixin(self)
        return method(self, *args, **kwargs)

    @wraps(method)
    async def amarked(self: Any, *args: Any, **kwargs: Any) -> Any:
        ensure_mixin(self)
        return await method(self, *args, **kwargs)

    wrapper: Any = amarked if iscoroutinefunction(method) else marked
    wrapper.idempotency_policy = policy
    setattr(wrapper, NEEDS_MIXIN, True)  # the checks look for it
    return wrapper


def _wrapped(view: Any, policy: Policy) -> Any:
    """A Django view. One engine serves both kinds of function.

    An async view runs on its loop while ``respond`` waits in the request's thread; its ORM
    calls come back to that thread, so they share the connection and the transaction.
    """
    owner = _owner_of(view)
    if isinstance(owner, APIView):
        msg = ON_DISPATCH.format(name=type(owner).__name__, method=view.__name__)
        raise ImproperlyConfigured(msg)
    # The dispatch() of an async class is a function that returns a coroutine.
    is_async = iscoroutinefunction(view) or getattr(owner, "view_is_async", False)
    operation = as_operation(view)
    run = view if operation is None else operation.run
    check = None if operation is None else operation.check
    name = _name_of(view)

    @lru_cache(maxsize=1)
    def complete(settings: Settings) -> Policy:
        return policy.over(settings_policy(settings))

    @wraps(view)
    def inner(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if check is not None and (refused := check(request)):
            return cast("HttpResponseBase", refused)
        return _respond(request, partial(run, request, *args, **kwargs), complete, name)

    @wraps(view)
    async def ainner(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if check is not None and (refused := await check(request)):
            return cast("HttpResponseBase", refused)
        execute = partial(async_to_sync(_awaited), run, request, *args, **kwargs)
        return await sync_to_async(_respond)(request, execute, complete, name)

    wrapper: Any = own_transactions(ainner if is_async else inner)
    wrapper.idempotency_policy = policy
    return wrapper


async def _awaited(run: Any, *args: Any, **kwargs: Any) -> Any:
    answer = run(*args, **kwargs)
    return await answer if isawaitable(answer) else answer


def _owner_of(view: Any) -> Any:
    """The instance behind a bound method, which method_decorator() passes as a partial."""
    bound = getattr(getattr(view, "__wrapped__", None), "__self__", None)
    return getattr(getattr(view, "func", view), "__self__", bound)


def _respond(
    request: Any, execute: Any, complete: Callable[[Settings], Policy], name: str
) -> HttpResponseBase:
    if isinstance(request, Request):
        raise ImproperlyConfigured(BELOW_API_VIEW.format(name=name))
    if not isinstance(request, HttpRequest):
        kind = type(request).__name__
        raise ImproperlyConfigured(NO_REQUEST.format(name=name, kind=kind))
    settings = get_settings()
    cast("Any", request).idempotency = None  # until there is a key, and it has been claimed
    if request.method not in settings.METHODS:
        return _plain(execute)
    policy = complete(settings)
    if settings.meta_name in request.META:
        record_stream(request)
    elif not policy.required and not (policy.key_field and policy.key_field in request.POST):
        return _plain(execute)
    return respond(request, execute, policy, name=name, answer=_answer)


def _name_of(view: Any) -> str:
    """How errors name a view: a function, a class behind method_decorator(), an operation."""
    owner = _owner_of(view)
    if owner is None:
        while isinstance(view, partial):
            view = view.func
        return str(getattr(view, "__qualname__", type(view).__qualname__))
    operation = getattr(owner, "view_func", None)
    return str(type(owner).__name__ if operation is None else operation.__qualname__)


def _plain(execute: Any) -> HttpResponseBase:
    try:
        with atomic_requests():
            answer = execute()
            if isinstance(answer, Undone):
                raise TypeError(NOT_RAISED)
            return cast("HttpResponseBase", answer)
    except Undone as undone:
        return cast("HttpResponseBase", undone.response)


def _answer(error: Exception) -> HttpResponseBase | None:
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return HttpResponse(str(error), status=status, content_type="text/plain")
    return None
