"""What one view asks for: settings, narrowed by the mixin's attributes or the decorator."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from .incoming import Idempotency

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One view's or one action's choices; ``None`` = as the level above says.

    The levels are the decorator on an action, the mixin's ``idempotency_<name>`` attributes,
    and the ``IDEMPOTENCY`` setting.
    """

    required: bool | None = None
    """Answer 400 when no key was sent."""
    retention: timedelta | None = None
    """How long a response is replayed, from the first request on."""
    scope: Callable[[HttpRequest], str] | None = None
    """Whose key it is: requests share a key only within one scope."""
    anonymous: Literal["shared", "reject", "session"] | None = None
    fingerprint: Callable[[HttpRequest], str | bytes] | None = None
    """Replaces everything that is compared: method, path, query and body included."""
    fingerprint_exclude: Collection[str] | None = None
    """Body members that may differ between retries; dots lead into nested objects."""
    in_flight: Literal["reject", "wait"] | None = None
    wait: timedelta | None = None
    """How long ``in_flight="wait"`` waits for the first request."""
    key_field: str | None = None
    """Form field that may carry the key where no header can, as in a plain HTML form."""
    can_replay: Callable[[HttpRequest, Idempotency], bool] | None = None
    """Asked before a replay: object permissions that the view checks while it runs."""
    rebuild: Callable[[HttpRequest, Idempotency], HttpResponseBase | None] | None = None
    """Makes the answer to a repeat in place of the stored one; None = the stored one."""
    redact_request: Callable[[Any], Any] | None = None
    """Takes the parsed body, returns what may be kept of it (``RECORD_REQUEST="body"``)."""
    redact_response: Callable[[bytes, str], bytes | None] | None = None
    """Takes body and content type, returns the body to keep; None = keep none."""

    def over(self, base: Policy) -> Policy:
        """This policy, with ``base`` where it is silent."""
        chosen = {
            f.name: getattr(base, f.name) if (value := getattr(self, f.name)) is None else value
            for f in fields(Policy)
        }
        return Policy(**chosen)
