"""Where protection may stand: mistakes that are found when a class or a function is defined."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from functools import partial
from types import FunctionType

from django.views import View
from rest_framework.views import APIView

from . import rules
from .policy import Policy, misspelled

__all__ = [
    "BELOW_API_VIEW",
    "HOOKS",
    "NEEDS_MIXIN",
    "NO_REQUEST",
    "ON_CLASS",
    "ON_DISPATCH",
    "ON_OPERATION",
    "PREFIXES",
    "TWICE",
    "WITHOUT_INITIAL",
    "WITHOUT_MIXIN",
    "cure_for",
    "is_django_view",
    "refuse_mistakes",
]

NEEDS_MIXIN = "idempotency_needs_mixin"  # the attribute of a method that carries a policy only
PREFIXES = ("idempotency_", "get_idempotency_")  # names of a view that can only mean the mixin
_PREFIX = PREFIXES[0]
HOOKS = {  # of the policy's choices, those that are methods of the mixin
    "scope": "get_idempotency_scope",
    "fingerprint": "get_idempotency_fingerprint",
    "can_replay": "can_replay",
    "rebuild": "rebuild_response",
    "redact_request": "redact_request",
    "redact_response": "redact_response",
}
_DISPATCH = '@method_decorator(idempotent, name="dispatch")'

BELOW_API_VIEW = (
    "@idempotent stands below @api_view on {name}, where it would act before DRF has rendered "
    "the response. Put it above: @idempotent, then @api_view."
)
WITHOUT_MIXIN = "{asks}, and nothing acts on that: {cure}"
WITHOUT_INITIAL = (
    "{name} has an initial() that does not call super().initial(), where REST framework asks who "
    "is there and what is allowed, and where IdempotentMixin acts. Call it first."
)
ON_OPERATION = (
    "{name} is registered with django-ninja already, which would never call what @idempotent makes "
    "of it. Write @decorate_view(idempotent) in its place."
)
NO_REQUEST = (
    "@idempotent decorates views, and {name} was called with {kind} in place of a request. If it "
    "is a method, its first parameter must be named self, and each decorator below @idempotent "
    "must use functools.wraps."
)
TWICE = "{name} is protected already, so this @idempotent has no place there. {cure}"
ON_CLASS = "@idempotent does not decorate classes: {cure}"
ON_DISPATCH = (
    "{name} is a DRF view, and method_decorator(idempotent) on its {method} would answer before "
    "authentication and permissions. Use IdempotentMixin; for the policy of one method write "
    "@idempotent on that method, without method_decorator; decorators below it must use "
    "functools.wraps."
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
    if not issubclass(cls, View):
        return f"{name} is no view, and only views have requests to protect."
    return f"{name} does not use IdempotentMixin. Write class {name}(IdempotentMixin, ...)."


def refuse_mistakes(cls: type, mixin: type) -> None:
    """What a subclass of the mixin may not be.

    Raises:
        TypeError: it is no view of REST framework, the mixin stands behind the view class, or
            an ``idempotency_…`` attribute or a hook does not exist or cannot have that value.
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
    _refuse_unknown(cls, [name for name in dir(mixin) if name.startswith(PREFIXES)])
    _refuse_values(cls)


def _refuse_unknown(cls: type, known: Collection[str]) -> None:
    for name in vars(cls):
        if name.startswith(PREFIXES) and name not in known:
            hook = HOOKS.get(name.removeprefix(_PREFIX))
            hint = f" It is a method: {hook}()." if hook else misspelled(name, known)
            msg = f"{cls.__name__}.{name}: IdempotentMixin has no such attribute.{hint}"
            raise TypeError(msg)


def _refuse_values(cls: type) -> None:
    actions = vars(cls).get("idempotency_actions")
    if actions is not None and (wrong := rules.names(actions)) is not None:
        cure = rules.cure(wrong, actions)
        msg = f"{cls.__name__}.idempotency_actions {wrong}, not {actions!r}. {cure}"
        raise TypeError(msg.rstrip())
    if not isinstance(vars(cls).get("idempotency_policy", Policy()), Policy):
        msg = (
            f"{cls.__name__}.idempotency_policy is what @idempotent sets. Write attributes such as "
            "idempotency_required instead."
        )
        raise TypeError(msg)
    for choice in (f.name for f in fields(Policy)):
        name = HOOKS.get(choice, _PREFIX + choice)
        if name not in vars(cls):
            continue
        value = vars(cls)[name]
        if choice in HOOKS and isinstance(value, FunctionType):
            value = partial(value, None)  # as it will be called: with its self
        elif choice in HOOKS:
            value = getattr(cls, name)  # of a static or class method, what is called
        if (wrong := Policy.wrong(choice, value)) is not None:
            msg = f"{cls.__name__}.{name} {wrong}"
            raise TypeError(msg)
