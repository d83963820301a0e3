"""Names in a view that are almost those of the mixin: nobody would ever call them."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

from django_idempotency.mixins import IdempotentMixin

__all__ = ["slips"]

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
