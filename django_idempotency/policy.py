"""What one view asks for: settings, narrowed by the mixin's attributes or the decorator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from . import rules

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from .incoming import Idempotency

__all__ = ["Policy", "misspelled"]


def _choice(rule: rules.Rule) -> Any:
    return field(default=None, metadata={"rule": rule})


_WITHOUT_EFFECT = {"anonymous": "scope", "fingerprint_exclude": "fingerprint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One view's or one action's choices; ``None`` = as the level above says.

    The levels are the decorator on an action, the mixin's ``idempotency_<name>`` attributes,
    and the ``IDEMPOTENCY`` setting.
    """

    required: bool | None = _choice(rules.boolean)
    """Answer 400 when no key was sent."""
    retention: timedelta | None = _choice(rules.duration)
    """How long a response is replayed, from the first request on."""
    scope: Callable[[HttpRequest], str] | None = _choice(rules.called("request"))
    """Whose key it is: requests share a key only within one scope."""
    anonymous: Literal["shared", "reject", "session"] | None = _choice(
        rules.one_of("shared", "reject", "session")
    )
    fingerprint: Callable[[HttpRequest], str | bytes] | None = _choice(rules.called("request"))
    """Replaces everything that is compared: method, path, query and body included."""
    fingerprint_exclude: Collection[str] | None = _choice(rules.names)
    """Body members that may differ between retries; dots lead into nested objects."""
    in_flight: Literal["reject", "wait"] | None = _choice(rules.one_of("reject", "wait"))
    wait: timedelta | None = _choice(rules.duration)
    """How long ``in_flight="wait"`` waits for the first request."""
    key_field: str | None = _choice(rules.text)
    """Form field that may carry the key where no header can, as in a plain HTML form."""
    can_replay: Callable[[HttpRequest, Idempotency], bool] | None = _choice(
        rules.called("request", "key")
    )
    """Asked before a replay: object permissions that the view checks while it runs."""
    rebuild: Callable[[HttpRequest, Idempotency], HttpResponseBase | None] | None = _choice(
        rules.called("request", "key")
    )
    """Makes the answer to a repeat in place of the stored one; None = the stored one."""
    redact_request: Callable[[Any], Any] | None = _choice(rules.called("data"))
    """Takes the parsed body, returns what may be kept of it (``RECORD_REQUEST="body"``)."""
    redact_response: Callable[[bytes, str], bytes | None] | None = _choice(
        rules.called("body", "content_type")
    )
    """Takes body and content type, returns the body to keep; None = keep none."""

    @classmethod
    def checked(cls, chosen: Mapping[str, Any]) -> Policy:
        """A policy from what someone wrote as arguments of ``idempotent()``, checked first.

        Raises:
            TypeError: there is no such choice, or it cannot have that value.
        """
        known = [f.name for f in fields(cls)]
        for name, value in chosen.items():
            if name not in known:
                hint = misspelled(name, known) or f" It has {', '.join(known)}."
                msg = f"idempotent() has no choice {name!r}.{hint}"
                raise TypeError(msg)
            if (wrong := cls.wrong(name, value)) is not None:
                msg = f"idempotent({name}=...) {wrong}"
                raise TypeError(msg)
        for name, winner in _WITHOUT_EFFECT.items():
            if chosen.get(name) is not None and chosen.get(winner) is not None:
                msg = f"idempotent({name}=...) has no effect beside {winner}, which decides alone."
                raise TypeError(msg)
        return cls(**chosen)

    @classmethod
    def wrong(cls, name: str, value: Any) -> str | None:
        """Why the choice ``name`` cannot have that value, as the end of a sentence."""
        rule = next(f.metadata["rule"] for f in fields(cls) if f.name == name)
        said = None if value is None else rule(value)
        if said is None:
            return None
        if callable(value):
            return f"{said}."
        return f"{said}, not {value!r}. {rules.cure(said, value)}".rstrip()

    def over(self, *bases: Policy) -> Policy:
        """This policy; where it is silent, the first of ``bases`` that is not."""
        chosen: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            for base in bases:
                if value is not None:
                    break
                value = getattr(base, name)
            chosen[name] = value
        return Policy(**chosen)


def misspelled(name: str, known: Iterable[str]) -> str:
    """The sentence that helps with a name that does not exist; "" where none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
