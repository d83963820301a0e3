"""Where protection may stand: mistakes that are found when a class or a function is defined."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django.views import View
from rest_framework.views import APIView

from .policy import Policy, misspelled

__all__ = [
    "BELOW_API_VIEW",
    "ON_CLASS",
    "ON_DISPATCH",
    "WITHOUT_MIXIN",
    "cure_for",
    "is_django_view",
    "refuse_mistakes",
]

_PREFIX = "idempotency_"
_DISPATCH = '@method_decorator(idempotent, name="dispatch")'

BELOW_API_VIEW = (
    "@idempotent stands below @api_view on {name}, where it would act before DRF has rendered "
    "the response. Put it above: @idempotent, then @api_view."
)
WITHOUT_MIXIN = "{name} is marked @idempotent, and nothing acts on that: {cure}"
ON_CLASS = "@idempotent does not decorate classes: {cure}"
ON_DISPATCH = (
    "{name} is a DRF view, and method_decorator(idempotent) on its {method} would answer before "
    "authentication and permissions. Use IdempotentMixin; for the policy of one method write "
    "@idempotent on that method, without method_decorator."
)


def is_django_view(cls: type) -> bool:
    """Whether this is a class-based view of Django and none of REST framework."""
    return issubclass(cls, View) and not issubclass(cls, APIView)


def cure_for(cls: type) -> str:
    """How to protect a class, in a clause and a sentence."""
    name = cls.__name__
    if is_django_view(cls):
        return (
            f"{name} is a Django view, and IdempotentMixin is for views of Django REST framework. "
            f"Write {_DISPATCH} above class {name}."
        )
    return f"{name} does not use IdempotentMixin. Write class {name}(IdempotentMixin, ...)."


def refuse_mistakes(cls: type, mixin: type) -> None:
    """What a subclass of the mixin may not be.

    Raises:
        TypeError: it is no view of REST framework, the mixin stands behind the view class, or
            an ``idempotency_…`` attribute does not exist or cannot have that value.
    """
    if is_django_view(cls):
        msg = f"{cls.__name__} would not be protected: {cure_for(cls)}"
        raise TypeError(msg)
    order = cls.__mro__
    if APIView in order and order.index(mixin) > order.index(APIView):
        msg = (
            f"{cls.__name__}: IdempotentMixin must stand before the view class, as in "
            f"class {cls.__name__}(IdempotentMixin, ...), or it is never reached."
        )
        raise TypeError(msg)
    own = {name: value for name, value in vars(cls).items() if name.startswith(_PREFIX)}
    _refuse_unknown(cls, own, {name for name in dir(mixin) if name.startswith(_PREFIX)})
    _refuse_values(cls, own)


def _refuse_unknown(cls: type, own: dict[str, Any], known: set[str]) -> None:
    for name in own:
        if name not in known:
            hint = misspelled(name, known)
            msg = f"{cls.__name__}.{name}: IdempotentMixin has no such attribute.{hint}"
            raise TypeError(msg)


def _refuse_values(cls: type, own: dict[str, Any]) -> None:
    choices = {f.name for f in fields(Policy)}
    values = {name.removeprefix(_PREFIX): value for name, value in own.items()}
    try:
        Policy.checked({name: values[name] for name in choices & values.keys()})
    except TypeError as error:
        msg = f"{cls.__name__}, {error}"
        raise TypeError(msg) from None
