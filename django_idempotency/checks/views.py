"""The views that ``ROOT_URLCONF`` leads to: protection in places where it cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
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
from django_idempotency.placement import BELOW_API_VIEW, ON_DISPATCH, WITHOUT_MIXIN, cure_for
from django_idempotency.policy import misspelled

__all__ = ["check_views"]


def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E006-E010: places where protection cannot work. W001: rows and keys apart."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: dict[str, CheckMessage] = {}
    for callback in _callbacks(get_resolver()):
        messages = _drf(callback) or _django(callback) or _ninja(callback)
        for message in messages:
            found.setdefault(message.msg, message)
    return list(found.values())


def _drf(callback: Any) -> Iterator[CheckMessage] | None:
    cls = getattr(callback, "cls", None)
    if not (isinstance(cls, type) and issubclass(cls, APIView)):
        return None
    mixed = issubclass(cls, IdempotentMixin)
    return chain(_wrapped(cls), _protection(cls) if mixed else _placement(cls))


def _django(callback: Any) -> Iterator[CheckMessage] | None:
    cls = getattr(callback, "view_class", None)
    return _unmixed(cls) if isinstance(cls, type) else None


def _protection(cls: Any) -> Iterator[CheckMessage]:
    """What a class with the mixin gets wrong."""
    for name in cls.idempotency_actions or ():
        if not hasattr(cls, name):
            hint = misspelled(name, [known for known in dir(cls) if not known.startswith("_")])
            text = f"{cls.__name__}.idempotency_actions names {name!r}, which {cls.__name__} lacks."
            yield _error(text + hint, "E009")
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
    taken_out = getattr(callback, "_non_atomic_requests", ())
    wrapped = [
        connection
        for connection in connections.all()
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.alias not in taken_out
    ]
    if not wrapped or not inspect.isfunction(callback):
        return
    # ninja makes one function for each path and keeps the operations in its closure.
    owner = inspect.getclosurevars(callback).nonlocals.get("self")
    for operation in getattr(owner, "operations", ()):
        if hasattr(operation.run, "idempotency_policy"):
            yield checks.Error(
                f"ATOMIC_REQUESTS wraps the django-ninja operation {operation.view_func.__name__} "
                "in a transaction, which @idempotent must open itself.",
                hint="Take the API out: urls = api.urls, then non_atomic_requests(pattern.callback)"
                " for each pattern in urls[0].",
                id="django_idempotency.E010",
            )


def _wrapped(cls: type) -> Iterator[CheckMessage]:
    """Methods of a DRF view that method_decorator() has wrapped."""
    for name, member in inspect.getmembers(cls, callable):
        if hasattr(member, "idempotency_policy") and not hasattr(member, "idempotency_needs_mixin"):
            yield _error(ON_DISPATCH.format(name=cls.__name__, method=name), "E008")


def _placement(cls: type[APIView]) -> Iterator[CheckMessage]:
    """What a DRF view without the mixin gets wrong."""
    yield from _unmixed(cls)
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if name in cls.http_method_names:
            # @api_view keeps the function it was given in the handler's closure.
            func = inspect.getclosurevars(member).nonlocals.get("func")
            if hasattr(func, "idempotency_policy"):
                yield _error(BELOW_API_VIEW.format(name=cls.__name__), "E006")


def _unmixed(cls: type) -> Iterator[CheckMessage]:
    """Methods that ask for the mixin in a class, of REST framework or not, that has none."""
    for name, member in inspect.getmembers(cls, callable):
        if hasattr(member, "idempotency_needs_mixin"):
            where = f"{cls.__name__}.{name}"
            yield _error(WITHOUT_MIXIN.format(name=where, cure=cure_for(cls)), "E007")


def _error(message: str, number: str) -> CheckMessage:
    return checks.Error(message, id=f"django_idempotency.{number}")


def _callbacks(resolver: URLResolver) -> Iterator[Any]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _callbacks(entry)
        elif isinstance(entry, URLPattern):
            yield entry.callback
