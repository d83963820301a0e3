"""What a view's hooks may return: checked where they are called, before anything counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.http.response import HttpResponseBase

from .policy import Policy

__all__ = ["guarded", "kind_of"]

_RETURNS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scope": (lambda value: isinstance(value, str) and value != "", "a non-empty string"),
    "fingerprint": (lambda value: isinstance(value, (str, bytes)), "a string or bytes"),
    # Only these two: a coroutine that nobody has awaited would be true.
    "can_replay": (lambda value: isinstance(value, bool), "True or False"),
    "rebuild": (
        lambda value: value is None or isinstance(value, HttpResponseBase),
        "a response, or None for the stored one",
    ),
    "redact_request": (
        lambda value: not inspect.isawaitable(value),
        "what may be kept of the body",
    ),
    "redact_response": (
        lambda value: value is None or isinstance(value, bytes),
        "bytes, or None to keep no body",
    ),
}


def guarded(policy: Policy, view: str) -> Policy:
    """``policy`` with hooks that raise ``TypeError`` when they return what they must not.

    ``view`` is how the error names the view whose hooks they are.
    """
    hooks = {name: hook for name in _RETURNS if (hook := getattr(policy, name)) is not None}
    if not hooks:
        return policy
    return replace(policy, **{name: _guarded(hook, name, view) for name, hook in hooks.items()})


def _guarded(hook: Callable[..., Any], name: str, view: str) -> Any:
    fits, what = _RETURNS[name]

    def checked(*args: Any) -> Any:
        value = hook(*args)
        if not fits(value):
            spelled = getattr(hook, "__qualname__", type(hook).__qualname__)
            msg = f"{view}: the hook {name} ({spelled}) must return {what}, not {kind_of(value)}."
            raise TypeError(msg)
        return value

    return checked


def kind_of(value: Any) -> str:
    """What sort of thing was returned; never its content, which may be secret."""
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that nobody has awaited it
        return "a coroutine, for nobody awaits it"
    return "an empty string" if value == "" else "None" if value is None else type(value).__name__
