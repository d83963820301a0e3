"""Whose key it is: requests share a key only within one scope."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured

from .conf import Settings, get_settings
from .exceptions import AnonymousRefused, KeyTooShort
from .models import MAX_TEXT
from .policy import Policy
from .text import printable

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["default_scope", "route_of", "scope_of"]

_NO_USER = (
    "The request is authenticated (request.auth) and has no user, so that its key would be shared "
    "with all who have none. Say whose key it is: set IDEMPOTENCY['SCOPE'], the view's "
    "get_idempotency_scope(), or scope=... of @idempotent, to a callable that takes the request "
    "and returns what stays the same when a token is renewed."
)
ANONYMOUS_KEY_LENGTH = 16  # characters: a key shared with strangers must be hard to guess


def scope_of(request: Any, key: str, policy: Policy, settings: Settings) -> str:
    if policy.scope is not None:
        return _bounded(policy.scope(request))
    scope = default_scope(request, anonymous=policy.anonymous or "shared")
    if scope.startswith("anonymous") and len(key) < ANONYMOUS_KEY_LENGTH:
        raise KeyTooShort(KeyTooShort.detail.format(minimum=ANONYMOUS_KEY_LENGTH))
    if settings.SCOPE == "user+route":
        scope = f"{scope} {route_of(getattr(request, '_request', request))}"
    return _bounded(scope)


def default_scope(request: Any, *, anonymous: str | None = None) -> str:
    """The authenticated principal, however it authenticated: ``user:<pk>``.

    A refreshed token or another scheme is the same principal. Without credentials it is
    ``anonymous`` (shared), a session, or refused, as ``ANONYMOUS`` says.
    """
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        # django-ninja and some authenticators of REST framework say here who it is.
        auth = getattr(request, "auth", None)
        if auth is not None and not getattr(auth, "is_authenticated", False):
            raise ImproperlyConfigured(_NO_USER)
        user = auth
    if user is not None:
        if getattr(user, "pk", None) is None:
            msg = "The authenticated user has no primary key; set IDEMPOTENCY['SCOPE']."
            raise ImproperlyConfigured(msg)
        meta = getattr(user, "_meta", None)
        foreign = meta is not None and not issubclass(meta.model, get_user_model())
        return f"{meta.label_lower if foreign else 'user'}:{user.pk}"  # type: ignore[union-attr]
    anonymous = anonymous or get_settings().ANONYMOUS
    if anonymous == "reject":
        raise AnonymousRefused
    return f"session:{_session(request)}" if anonymous == "session" else "anonymous"


def _session(request: Any) -> str:
    session = getattr(request, "session", None)
    if session is None:
        msg = (
            'ANONYMOUS is "session", and the request has none. Put '
            "django.contrib.sessions.middleware.SessionMiddleware into MIDDLEWARE."
        )
        raise ImproperlyConfigured(msg)
    if session.session_key is None:
        session.create()
    return hashlib.sha256(session.session_key.encode()).hexdigest()  # never the key itself


def _bounded(scope: str) -> str:
    """A scope that any database can hold; an odd or long one by its digest."""
    if 0 < len(scope) <= MAX_TEXT and scope.isprintable():
        return scope
    digest = hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{printable(scope, 150)}~{digest}"


def route_of(request: HttpRequest) -> str:
    """The URL pattern that led here, or the view's name where there is none."""
    match = request.resolver_match
    return (match.route or match.view_name or "") if match is not None else ""
