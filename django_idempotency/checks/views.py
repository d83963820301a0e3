"""The views that ``ROOT_URLCONF`` leads to: protection in places where it cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import connections, router
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

from django_idempotency.mixins import IdempotentMixin
from django_idempotency.models import IdempotencyKey
from django_idempotency.placement import (
    BELOW_API_VIEW,
    NEEDS_MIXIN,
    ON_DISPATCH,
    PREFIXES,
    WITHOUT_MIXIN,
    cure_for,
    is_django_view,
)

from .reach import (
    Route,
    is_wrapped,
    misnamed,
    routes_of,
    unreached,
    unreached_handlers,
    unreached_whole,
)
from .slips import slips, unheard, unheard_in

__all__ = ["check_views"]


def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E006-E011: protection that cannot work. W001: rows and keys apart. W007, W008: no effect."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    callbacks = list(_callbacks(get_resolver()))
    found: dict[str, CheckMessage] = {}
    for message in chain(_drf(callbacks), *map(_django, callbacks), *map(_ninja, callbacks)):
        found.setdefault(message.msg, message)
    return list(found.values())


def _drf(callbacks: Iterable[Any]) -> Iterator[CheckMessage]:
    """Views of REST framework; a viewset has several URLs, which are one view here."""
    routes: dict[type[APIView], set[Route]] = {}
    for callback in callbacks:
        cls = getattr(callback, "cls", None)
        if isinstance(cls, type) and issubclass(cls, APIView):
            mapped = routes_of(cls, getattr(callback, "actions", None))
            routes.setdefault(cls, set()).update(mapped)
    for cls, mapped in routes.items():
        yield from _wrapped(cls)
        if issubclass(cls, IdempotentMixin):
            yield from chain(misnamed(cls, mapped), unreached(cls, mapped), slips(cls))
            yield from chain(unheard_in(cls, mapped), _apart(cls))
        else:
            yield from chain(_unmixed(cls), _below_api_view(cls))


def _django(callback: Any) -> Iterator[CheckMessage]:
    """Views of Django; what is known of a function is its policy."""
    policy = getattr(callback, "idempotency_policy", None)
    if policy is not None and not hasattr(callback, "cls"):
        yield from unheard(getattr(callback, "__qualname__", repr(callback)), policy)
    cls = getattr(callback, "view_class", None)
    if isinstance(cls, type) and is_django_view(cls):
        yield from _unmixed(cls)
        yield from unreached_handlers(cls)
        yield from _handlers_enclosed(cls, callback)
        if hasattr(callback, "idempotency_policy"):
            methods = {method for method, _ in routes_of(cls)}
            yield from unreached_whole(f"{cls.__name__} is decorated", methods)


def _apart(cls: Any) -> Iterator[CheckMessage]:
    """Rows in one database and their keys in another."""
    model = getattr(getattr(cls, "queryset", None), "model", None)
    if model is None:
        return
    rows, keys = router.db_for_write(model), router.db_for_write(IdempotencyKey)
    if rows != keys:
        yield checks.Warning(
            f"{cls.__name__} writes {model._meta.label} to the database {rows!r}, its keys are in "
            f"{keys!r}: a crash between the two commits leaves one without the other.",
            hint="Let the router put django_idempotency into the database of the rows it guards.",
            id="django_idempotency.W001",
        )


def _ninja(callback: Any) -> Iterator[CheckMessage]:
    """Operations of django-ninja, whose views nobody has taken out of ATOMIC_REQUESTS."""
    wrapped = _is_enclosed(callback)
    for operation in _operations(callback):
        name = f"The django-ninja operation {operation.view_func.__name__}"
        yield from unreached_whole(f"{name} is decorated", set(operation.methods), safe_too=True)
        if wrapped:
            cure = (
                "Take the API out: urls = api.urls, then non_atomic_requests(pattern.callback)"
                " for each pattern in urls[0]."
            )
            yield _enclosed(name, cure)


def _handlers_enclosed(cls: Any, callback: Any) -> Iterator[CheckMessage]:
    """Handlers of a Django view, decorated one by one: the view knows nothing of that."""
    if _is_enclosed(callback):
        for _, name in sorted(routes_of(cls)):
            if is_wrapped(getattr(cls, name)):
                cure = f'Write @method_decorator(idempotent, name="dispatch") above {cls.__name__}.'
                yield _enclosed(f"{cls.__name__}.{name}", cure)


def _is_enclosed(callback: Any) -> bool:
    """Whether ATOMIC_REQUESTS opens a transaction around it."""
    taken_out = getattr(callback, "_non_atomic_requests", ())
    return any(
        connection.settings_dict["ATOMIC_REQUESTS"] and connection.alias not in taken_out
        for connection in connections.all()
    )


def _enclosed(what: str, cure: str) -> CheckMessage:
    return checks.Error(
        f"{what} runs inside the transaction of ATOMIC_REQUESTS, and @idempotent must open its "
        "transaction itself.",
        hint=cure,
        id="django_idempotency.E010",
    )


def _operations(callback: Any) -> Iterator[Any]:
    """The protected ninja operations behind a URL."""
    view = inspect.unwrap(callback)
    if not inspect.isfunction(view) or view.__module__ != "ninja.operation":
        return
    # ninja makes one function for each path and keeps the operations in its closure.
    owner = inspect.getclosurevars(view).nonlocals.get("self")
    for operation in getattr(owner, "operations", ()):
        if hasattr(operation.run, "idempotency_policy"):
            yield operation


def _wrapped(cls: type) -> Iterator[CheckMessage]:
    """Methods of a DRF view that method_decorator() has wrapped."""
    for name, member in inspect.getmembers(cls, callable):
        if is_wrapped(member):
            yield _error(ON_DISPATCH.format(name=cls.__name__, method=name), "E008")


def _below_api_view(cls: Any) -> Iterator[CheckMessage]:
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if name in cls.http_method_names:
            # @api_view keeps the function it was given in the handler's closure.
            func = inspect.getclosurevars(member).nonlocals.get("func")
            if hasattr(func, "idempotency_policy"):
                yield _error(BELOW_API_VIEW.format(name=cls.__name__), "E006")


def _unmixed(cls: type) -> Iterator[CheckMessage]:
    """What asks for the mixin in a class, of REST framework or not, that has none."""
    for name in dir(cls):
        marked = hasattr(getattr(cls, name, None), NEEDS_MIXIN)
        if marked or (name.startswith(PREFIXES) and hasattr(IdempotentMixin, name)):
            asks = f"{cls.__name__}.{name} {'is marked @idempotent' if marked else 'is set'}"
            yield _error(WITHOUT_MIXIN.format(asks=asks, cure=cure_for(cls)), "E007")


def _error(message: str, number: str) -> CheckMessage:
    return checks.Error(message, id=f"django_idempotency.{number}")


def _callbacks(resolver: URLResolver) -> Iterator[Any]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _callbacks(entry)
        elif isinstance(entry, URLPattern):
            yield entry.callback
