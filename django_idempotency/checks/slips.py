"""What stands in a view and has no effect: names that are almost ours, a wait that is never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

from django_idempotency.mixins import IdempotentMixin
from django_idempotency.policy import Policy

from .configuration import in_force
from .reach import Route

__all__ = ["slips", "unheard", "unheard_in"]

_KNOWN = [name for name in dir(IdempotentMixin) if not name.startswith("_")]
_OURS = "idempot"  # a name that holds this means us, so more than one letter may be wrong
_NEAR = 0.85  # of difflib's ratio: idempotent_required, get_idempotent_scope


def slips(cls: Any) -> Iterator[CheckMessage]:
    """W007: a method or attribute of a view with the mixin that is one slip from a real one."""
    for name in dir(cls):
        if name.startswith("_") or name in _KNOWN:
            continue
        near = [known for known in _KNOWN if _one_slip(name, known)]
        if _OURS in name:
            near += get_close_matches(name, _KNOWN, n=1, cutoff=_NEAR)
        if near:
            yield checks.Warning(
                f"{cls.__name__}.{name} means nothing to IdempotentMixin. Did you mean {near[0]}?",
                hint="If the name is meant, silence this warning or choose another name.",
                id="django_idempotency.W007",
            )


def unheard_in(cls: Any, routes: Iterable[Route]) -> Iterator[CheckMessage]:
    """W008, for a class with the mixin and its marked actions."""
    own = Policy(wait=cls.idempotency_wait, in_flight=cls.idempotency_in_flight)
    whole = own.over(cls.idempotency_policy)
    yield from unheard(cls.__name__, whole)
    for name in sorted({name for _, name in routes}):
        policy: Policy | None = getattr(getattr(cls, name, None), "idempotency_policy", None)
        if policy is not None and policy.wait is not None:
            yield from unheard(f"{cls.__name__}.{name}", policy.over(whole))


def unheard(what: str, policy: Policy) -> Iterator[CheckMessage]:
    """W008: a time to wait, where nobody waits."""
    if policy.wait is not None and (policy.in_flight or in_force().IN_FLIGHT) != "wait":
        yield checks.Warning(
            f"{what} says how long a duplicate waits for the first request, but duplicates are "
            "refused at once.",
            hint='Set in_flight="wait" (idempotency_in_flight in a class) beside it, or leave wait '
            "out.",
            id="django_idempotency.W008",
        )


def _one_slip(name: str, known: str) -> bool:
    """Whether one letter is missing, too many or another, or two neighbours are swapped."""
    at = next((i for i, (a, b) in enumerate(zip(name, known, strict=False)) if a != b), None)
    if at is None:
        return abs(len(name) - len(known)) == 1
    swapped = known[:at] + known[at : at + 2][::-1] + known[at + 2 :]
    return (
        name == swapped
        or name[at + 1 :] in {known[at + 1 :], known[at:]}
        or (name[at:] == known[at + 1 :])
    )
