"""What protection reaches: the methods that lead to each handler, and those that METHODS lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

from django_idempotency.mixins import IdempotentMixin
from django_idempotency.placement import NEEDS_MIXIN
from django_idempotency.policy import misspelled

from .configuration import in_force

__all__ = [
    "Route",
    "is_wrapped",
    "misnamed",
    "routes_of",
    "unreached",
    "unreached_handlers",
    "unreached_whole",
]

Route = tuple[str, str]  # a method, and the name of the handler or action that it leads to

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_STANDARD = ("list", "create", "retrieve", "update", "partial_update", "destroy")
_BY_THE_WAY = {"HEAD", "OPTIONS", "TRACE"}  # nobody means them


def routes_of(cls: Any, actions: dict[str, str] | None = None) -> set[Route]:
    """The routes of a class-based view; ``actions`` is what a viewset's URL maps."""
    names = actions or {method: method for method in cls.http_method_names if hasattr(cls, method)}
    allowed = {method: name for method, name in names.items() if method in cls.http_method_names}
    return {(method.upper(), name) for method, name in allowed.items()}


def misnamed(cls: Any, routes: Iterable[Route]) -> Iterator[CheckMessage]:
    """E009: ``idempotency_actions`` names, or a mark is on, what no request can lead to."""
    known = {name for method, name in routes if method not in _BY_THE_WAY}
    if hasattr(cls, "get_extra_actions"):
        known |= {name for name in _STANDARD if hasattr(cls, name)}
        known |= {action.__name__ for action in cls.get_extra_actions()}
    listed, named = cls.idempotency_actions or (), f"{cls.__name__}.idempotency_actions names"
    marked = [name for name in dir(cls) if hasattr(getattr(cls, name, None), NEEDS_MIXIN)]
    asked = [(f"@idempotent stands on {cls.__name__}.{name}", name) for name in marked]
    for asks, name in chain([(f"{named} {name!r}", name) for name in listed], asked):
        if name not in known:
            has = misspelled(name, known) or f" It has {', '.join(sorted(known))}."
            yield _error(f"{asks}, which is no action or handler of {cls.__name__}.{has}", "E009")


def unreached(cls: Any, routes: set[Route]) -> Iterator[CheckMessage]:
    """E011, for a class with the mixin: asked for, and not done."""
    listed = cls.idempotency_actions
    marked = {name for _, name in routes if hasattr(getattr(cls, name, None), "idempotency_policy")}
    for name in sorted({name for _, name in routes} & (marked | set(listed or ()))):
        what = "marked @idempotent" if name in marked else "named in idempotency_actions"
        methods = {method for method, leads_to in routes if leads_to == name}
        yield from _missed(f"{cls.__name__}.{name} is {what}", methods)
    if listed is None and not marked and IdempotentMixin in cls.__bases__:
        decorated = "idempotency_policy" in vars(cls)
        what = "is decorated" if decorated else "has the mixin"
        methods = {method for method, _ in routes}
        yield from unreached_whole(f"{cls.__name__} {what}", methods, safe_too=decorated)


def unreached_handlers(cls: Any) -> Iterator[CheckMessage]:
    """E011, for handlers of a Django view that are decorated one by one."""
    for method, name in sorted(routes_of(cls)):
        if is_wrapped(getattr(cls, name)):
            yield from _missed(f"{cls.__name__}.{name} is decorated", {method})


def is_wrapped(member: Any) -> bool:
    """Whether ``@idempotent`` runs this method itself and has not only marked it for the mixin."""
    return hasattr(member, "idempotency_policy") and not hasattr(member, NEEDS_MIXIN)


def unreached_whole(
    what: str, methods: set[str], *, safe_too: bool = False
) -> Iterator[CheckMessage]:
    """E011, for a view that is protected as a whole; ``safe_too``: one that only reads, too."""
    unsafe = methods & _UNSAFE
    if not methods & _protected() and (unsafe or safe_too):
        yield from _missed(what, unsafe or methods)


def _missed(what: str, methods: set[str]) -> Iterator[CheckMessage]:
    missed = sorted(methods & _UNSAFE - _protected())
    read_only = not methods & _UNSAFE
    safe = sorted(methods - _BY_THE_WAY)
    if missed:
        are = "is" if len(missed) == 1 else "are"
        why = f"{' and '.join(missed)} {are} not in IDEMPOTENCY['METHODS'] and so not protected."
        hint = f"Add {', '.join(map(repr, missed))} to METHODS, or do not ask for protection here."
    elif read_only and safe:
        why = f"only {' and '.join(safe)} leads there, which is never protected."
        hint = "Do not ask for protection here: what only reads may be repeated as it is."
    else:
        return
    yield _error(f"{what}, but {why}", "E011", hint=hint)


def _protected() -> frozenset[str]:
    return frozenset(in_force().METHODS)


def _error(message: str, number: str, *, hint: str | None = None) -> CheckMessage:
    return checks.Error(message, hint=hint, id=f"django_idempotency.{number}")
