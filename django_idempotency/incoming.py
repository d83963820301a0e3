"""From an HTTP request to a :class:`KeyedRequest`: whose key it is, and what was asked."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
import uuid
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.utils.http import parse_header_parameters
from django.utils.module_loading import import_string
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from .body import Body, form_body, raw_body, record_stream
from .conf import Settings, get_settings, secrets
from .exceptions import AnonymousRefused, KeyMissing, KeyTooShort
from .fingerprint import canonical_pairs, content_digest, field_digests, sign
from .keys import KeyRules, parse_key
from .models import MAX_TEXT
from .policy import Policy
from .protocol import Attempt, Caller, KeyedRequest, StoredResponse

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = [
    "REDACTED",
    "Idempotency",
    "default_scope",
    "is_sensitive",
    "keyed_request",
    "redacted",
    "sent_key",
    "settings_policy",
    "signed_salt",
]

ANONYMOUS_KEY_LENGTH = 16  # characters: a key shared with strangers must be hard to guess
_SCOPES = ("user", "user+route")
REDACTED = "[redacted]"  # stands for a value that is not kept, or not shown
_LONGEST_RECORD = 64 * 1024  # bytes of a kept body


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
        raise KeyMissing(KeyMissing.detail.format(header=settings.HEADER))
    return cast("str | None", sent)


def keyed_request(request: Any, sent: str, policy: Policy, settings: Settings) -> KeyedRequest:
    """Read everything the engine needs.

    ``request`` is Django's or DRF's; authentication must have run.

    Raises:
        KeyInvalid, KeyTooShort, AnonymousRefused: see the exceptions.
    """
    django_request: HttpRequest = getattr(request, "_request", request)
    key = parse_key(sent, _key_rules(settings))
    scope = _scope(request, key, policy, settings)
    body, content = _content(request, policy, settings)
    signed = sign(content_digest(content), secrets())
    described = [*_about(django_request), *(body.fields if body else ())]
    return KeyedRequest(
        scope=scope,
        key=key,
        fingerprints=signed,
        method=cast("str", request.method),
        path=_printable(django_request.get_full_path().partition("?")[0], MAX_TEXT),
        route=_printable(_route(django_request), MAX_TEXT),
        retention=cast("Any", policy.retention),
        record=_record(described, body, policy, settings, salt=signed_salt(scope, key)),
        caller=_caller(django_request),
        never_store=frozenset(settings.NEVER_STORE),
        store_errors=settings.STORE_5XX,
        reuse_expired=settings.ON_EXPIRED == "execute",
        in_flight_status=settings.IN_FLIGHT_STATUS,
        conflict_status=settings.MISMATCH_STATUS,
    )


def _key_rules(settings: Settings) -> KeyRules:
    return KeyRules(
        strict=settings.KEY_SYNTAX == "strict",
        min_length=settings.KEY_MIN_LENGTH,
        max_length=settings.KEY_MAX_LENGTH,
        pattern=settings.KEY_PATTERN,
    )


# -- whose key


def _scope(request: Any, key: str, policy: Policy, settings: Settings) -> str:
    if policy.scope is not None:
        return _bounded(policy.scope(request))
    scope = default_scope(request, anonymous=policy.anonymous or "shared")
    if scope.startswith("anonymous") and len(key) < ANONYMOUS_KEY_LENGTH:
        raise KeyTooShort(KeyTooShort.detail.format(minimum=ANONYMOUS_KEY_LENGTH))
    if settings.SCOPE == "user+route":
        scope = f"{scope} {_route(getattr(request, '_request', request))}"
    return _bounded(scope)


def default_scope(request: Any, *, anonymous: str | None = None) -> str:
    """The authenticated principal, however it authenticated: ``user:<pk>``.

    A refreshed token or another scheme is the same principal. Without credentials it is
    ``anonymous`` (shared), a session, or refused, as ``ANONYMOUS`` says.
    """
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        if user.pk is None:
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
    session = request.session
    if session.session_key is None:
        session.create()
    return hashlib.sha256(session.session_key.encode()).hexdigest()  # never the key itself


def _bounded(scope: str) -> str:
    """A scope that any database can hold; an odd or long one by its digest."""
    if 0 < len(scope) <= MAX_TEXT and scope.isprintable():
        return scope
    digest = hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_printable(scope, 150)}~{digest}"


# -- what was asked


def _content(request: Any, policy: Policy, settings: Settings) -> tuple[Body | None, list[bytes]]:
    """The parts that two equal requests share."""
    if policy.fingerprint is not None:
        chosen = policy.fingerprint(request)
        return None, [chosen.encode() if isinstance(chosen, str) else chosen]
    django_request: HttpRequest = getattr(request, "_request", request)
    media_type, parameters = parse_header_parameters(django_request.META.get("CONTENT_TYPE", ""))
    if media_type == "multipart/form-data":
        parameters.pop("boundary", None)  # new with each attempt
    if parameters.get("charset", "").lower() == "utf-8":
        del parameters["charset"]  # the default, spelled out
    body = _body(request, media_type, policy.fingerprint_exclude or ())
    query = parse_qsl(django_request.META.get("QUERY_STRING", ""), keep_blank_values=True)
    headers = [django_request.headers.get(name, "") for name in settings.FINGERPRINT_HEADERS]
    texts = (cast("str", request.method), django_request.path, media_type, *headers)
    return body, [
        *(text.encode("utf-8", "surrogatepass") for text in texts),
        str(getattr(request, "version", None) or "").encode(),  # DRF's API version
        content_digest(canonical_pairs(query)),
        content_digest(canonical_pairs(parameters.items())),
        content_digest(body.parts),
    ]


def _body(request: Any, media_type: str, exclude: Any) -> Body:
    if media_type == "multipart/form-data":
        try:
            if isinstance(request, Request):
                # DRF may be the one who reads the stream; what cannot be parsed fails here
                # as it would in the view, and the key stays unused.
                request.data  # noqa: B018
                return form_body(cast("Any", request)._data, request.FILES, exclude)
            return form_body(request.POST, request.FILES, exclude)
        except UnsupportedMediaType:
            # This view reads the raw body; nobody has read it yet.
            record_stream(request._request, multipart=True)
    return raw_body(getattr(request, "_request", request), media_type, exclude)


def _about(request: HttpRequest) -> list[tuple[str, str]]:
    """What of a request may differ besides its body; ``@`` cannot begin a field by accident."""
    return [
        ("@method", request.method or ""),
        ("@path", request.path),
        ("@query", request.META.get("QUERY_STRING", "")),
        ("@content-type", request.content_type or ""),
    ]


def signed_salt(scope: str, key: str) -> bytes:
    """Equal field values under two keys must not have equal digests."""
    return hashlib.sha256(f"{len(scope)}:{scope}{key}".encode()).digest()[:16]


def _record(
    described: list[tuple[str, str]],
    body: Body | None,
    policy: Policy,
    settings: Settings,
    *,
    salt: bytes,
) -> str:
    """JSON of what is kept of a request, so that a conflict can be explained."""
    if settings.RECORD_REQUEST == "nothing":
        return ""
    record: dict[str, Any] = {"fields": field_digests(described, secret=secrets()[0], salt=salt)}
    if settings.RECORD_REQUEST == "body" and body is not None and body.document is not None:
        redact = policy.redact_request or (lambda data: redacted(data, settings.REDACT))
        record["body"] = redact(_plain(body.document))
        whole = _dumps(record)
        if len(whole) <= _LONGEST_RECORD:
            return whole
        del record["body"]
    return _dumps(record)


def _dumps(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), default=str)


def _plain(document: Any) -> Any:
    """A document whose numbers are numbers again."""
    return json.loads(json.dumps(document, default=lambda literal: _number(literal.text)))


def _number(text: str) -> float | str:
    return float(text) if text.lstrip("-").replace(".", "").isdigit() else text


def is_sensitive(name: str, patterns: Collection[str]) -> bool:
    """Whether the value of a field or header with this name must not be kept or shown."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def redacted(data: Any, patterns: Any) -> Any:
    """``data`` with the values of fields whose name matches a pattern replaced."""
    if isinstance(data, dict):
        return {
            name: REDACTED if is_sensitive(name, patterns) else redacted(value, patterns)
            for name, value in data.items()
        }
    return [redacted(item, patterns) for item in data] if isinstance(data, list) else data


# -- where it came from


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.route or match.view_name or "") if match is not None else ""


def _caller(request: HttpRequest) -> Caller:
    return Caller(
        remote_addr=_address(request.META.get("REMOTE_ADDR", "")),
        user_agent=_printable(request.META.get("HTTP_USER_AGENT", ""), MAX_TEXT),
        request_id=_printable(request.META.get("HTTP_X_REQUEST_ID", ""), 128),
    )


@functools.lru_cache(maxsize=1024)
def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None  # a socket's path, or nothing


def _printable(text: str, limit: int) -> str:
    """Text that any database can hold and any log can print, cut to ``limit`` characters."""
    if len(text) <= limit and text.isprintable():
        return text
    clean = "".join(c if c.isprintable() else "�" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
