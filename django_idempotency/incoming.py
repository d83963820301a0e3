"""From an HTTP request to a :class:`KeyedRequest`: whose key it is, and what was asked."""

from __future__ import annotations

import functools
import ipaddress
import uuid
from typing import TYPE_CHECKING, Any, cast

from django.utils.module_loading import import_string

from .conf import Settings, secrets
from .content import content_of, record_of, salt_of
from .exceptions import KeyMissing
from .fingerprint import content_digest, sign
from .keys import KeyRules, parse_key
from .models import MAX_TEXT
from .policy import Policy
from .protocol import Attempt, Caller, KeyedRequest, StoredResponse
from .scope import route_of, scope_of
from .text import printable

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["Idempotency", "keyed_request", "sent_key", "settings_policy"]

_SCOPES = ("user", "user+route")


class Idempotency:
    """``request.idempotency``: what a view may know of the key it runs under."""

    def __init__(self, request: KeyedRequest, attempt: Attempt) -> None:
        self.key = request.key
        self.scope = request.scope
        self.attempt = attempt.number  # 1 for the first execution of this key
        self.expires_at = attempt.expires_at
        self.response: StoredResponse | None = None  # set when a replay is being considered
        self._seed = attempt.seed

    def outbound_key(self, name: str) -> str:
        """A key for a call to another service, the same in every attempt of this request.

        36 characters. Made from a random seed that is stored with the key and never from the
        client's value: other tenants may share your account there, and a restored copy of the
        database must not reuse production's keys by accident of equal numbers.
        """
        return str(uuid.uuid5(self._seed, name))


@functools.lru_cache(maxsize=4)
def settings_policy(settings: Settings) -> Policy:
    """What every view asks for unless it says otherwise."""
    return Policy(
        required=settings.REQUIRED,
        retention=settings.RETENTION,
        scope=None if settings.SCOPE in _SCOPES else _resolve(settings.SCOPE),
        anonymous=cast("Any", settings.ANONYMOUS),
        fingerprint=_resolve(settings.FINGERPRINT),
        fingerprint_exclude=(),
        in_flight=cast("Any", settings.IN_FLIGHT),
        wait=settings.WAIT,
        key_field="",
    )


@functools.lru_cache
def _resolve(value: Any) -> Any:
    return import_string(value) if isinstance(value, str) else value


def sent_key(request: HttpRequest, policy: Policy, settings: Settings) -> str | None:
    """The key as sent, unparsed; None = none was sent.

    Raises:
        KeyMissing: none was sent and the view requires one.
    """
    sent = request.META.get(settings.meta_name)
    if sent is None and policy.key_field:
        sent = request.POST.get(policy.key_field)
    if sent is None and policy.required:
        field = f' or in the form field "{policy.key_field}"' if policy.key_field else ""
        where = f"the {settings.HEADER} header{field}"
        raise KeyMissing(KeyMissing.detail.format(where=where))
    return cast("str | None", sent)


def keyed_request(request: Any, sent: str, policy: Policy, settings: Settings) -> KeyedRequest:
    """Read everything the engine needs.

    ``request`` is Django's or DRF's; authentication must have run.

    Raises:
        KeyInvalid, KeyTooShort, AnonymousRefused: see the exceptions.
    """
    django_request: HttpRequest = getattr(request, "_request", request)
    key = parse_key(sent, _key_rules(settings))
    scope = scope_of(request, key, policy, settings)
    body, content = content_of(request, policy, settings)
    salt = salt_of(scope, key)
    return KeyedRequest(
        scope=scope,
        key=key,
        fingerprints=sign(content_digest(content), secrets()),
        method=cast("str", request.method),
        path=printable(django_request.get_full_path().partition("?")[0], MAX_TEXT),
        route=printable(route_of(django_request), MAX_TEXT),
        retention=cast("Any", policy.retention),
        record=record_of(django_request, body, policy, settings, salt=salt),
        caller=_caller(django_request),
        never_store=frozenset(settings.NEVER_STORE),
        store_errors=settings.STORE_5XX,
        keys_per_scope=settings.KEYS_PER_SCOPE,
        max_crashes=settings.MAX_CRASHES,
        reuse_expired=settings.ON_EXPIRED == "execute",
        in_flight_status=settings.IN_FLIGHT_STATUS,
        conflict_status=settings.MISMATCH_STATUS,
    )


@functools.lru_cache(maxsize=4)
def _key_rules(settings: Settings) -> KeyRules:
    return KeyRules(
        strict=settings.KEY_SYNTAX == "strict",
        min_length=settings.KEY_MIN_LENGTH,
        max_length=settings.KEY_MAX_LENGTH,
        pattern=settings.KEY_PATTERN,
    )


def _caller(request: HttpRequest) -> Caller:
    return Caller(
        remote_addr=_address(request.META.get("REMOTE_ADDR", "")),
        user_agent=printable(request.META.get("HTTP_USER_AGENT", ""), MAX_TEXT),
        request_id=printable(request.META.get("HTTP_X_REQUEST_ID", ""), 128),
    )


@functools.lru_cache(maxsize=1024)
def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None  # a socket's path, or nothing
