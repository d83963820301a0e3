"""The ``IDEMPOTENCY`` setting: one dict, read into a frozen dataclass.

A name that does not exist or a value that makes no sense is reported by ``manage.py check``
with a hint, and raises ``ImproperlyConfigured`` should the checks have been skipped.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

__all__ = ["Settings", "get_settings", "problems", "secrets"]

Rule = Callable[[Any], "str | None"]  # what is wrong with a value; None = nothing


def _one_of(*allowed: object) -> Rule:
    spelled = ", ".join(repr(value) for value in allowed)
    return lambda value: None if value in allowed else f"must be one of {spelled}"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def _whole(least: int, most: int) -> Rule:
    def rule(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"must be a whole number from {least} to {most}"

    return rule


def _duration(value: Any) -> str | None:
    if not isinstance(value, timedelta):
        return "must be a datetime.timedelta"
    return None if value > timedelta(0) else "must be longer than zero"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a non-empty string"


def _names(value: Any) -> str | None:
    is_list = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    fits = is_list and all(isinstance(name, str) and name for name in value)
    return None if fits else "must be a list, tuple or set of strings"


def _methods(value: Any) -> str | None:
    allowed = {"POST", "PATCH", "PUT", "DELETE"}
    fits = _names(value) is None and value and set(value) <= allowed
    return None if fits else "must name some of POST, PATCH, PUT, DELETE"


def _statuses(value: Any) -> str | None:
    fits = isinstance(value, Collection) and all(
        isinstance(status, int) and 100 <= status <= 599 for status in value
    )
    return None if fits else "must be a set of HTTP statuses"


def _pattern(value: Any) -> str | None:
    if value is None or value == "uuid":
        return None
    try:
        re.compile(value)
    except (re.error, TypeError):
        return 'must be None, "uuid" or a regular expression'
    return None


def _callable(*words: str | None) -> Rule:
    def rule(value: Any) -> str | None:
        if value in words or callable(value):
            return None
        try:
            if callable(import_string(value)):
                return None
        except (ImportError, AttributeError, TypeError):
            pass
        spelled = ", ".join(repr(word) for word in words)
        return f"must be {spelled}, a callable, or the dotted path of one"

    return rule


def _secrets(value: Any) -> str | None:
    if value is None:
        return None
    fits = _names(value) is None and isinstance(value, (list, tuple)) and value
    return None if fits else "must be None or a non-empty list of strings, the current one first"


def _setting(default: Any, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # hashed by identity, for caches
class Settings:
    """One field per setting, its default beside it. Durations are ``timedelta``."""

    HEADER: str = _setting("Idempotency-Key", _text)
    METHODS: Collection[str] = _setting(("POST", "PATCH"), _methods)
    REQUIRED: bool = _setting(default=False, rule=_boolean)
    KEY_SYNTAX: str = _setting("lenient", _one_of("lenient", "strict"))
    KEY_MIN_LENGTH: int = _setting(1, _whole(1, 255))
    KEY_MAX_LENGTH: int = _setting(255, _whole(1, 255))
    KEY_PATTERN: str | None = _setting(None, _pattern)
    SCOPE: Any = _setting("user", _callable("user", "user+route"))
    ANONYMOUS: str = _setting("shared", _one_of("shared", "reject", "session"))
    FINGERPRINT: Any = _setting(None, _callable(None))
    FINGERPRINT_HEADERS: Collection[str] = _setting((), _names)
    FINGERPRINT_KEYS: Collection[str] | None = _setting(None, _secrets)
    RETENTION: timedelta = _setting(timedelta(hours=24), _duration)
    ON_EXPIRED: str = _setting("execute", _one_of("execute", "reject"))
    IN_FLIGHT: str = _setting("reject", _one_of("reject", "wait"))
    IN_FLIGHT_STATUS: int = _setting(409, _one_of(409, 423, 503))
    WAIT: timedelta = _setting(timedelta(seconds=5), _duration)
    MISMATCH_STATUS: int = _setting(422, _one_of(422, 409, 400))
    NEVER_STORE: Collection[int] = _setting(frozenset({401, 403, 408, 423, 425, 429}), _statuses)
    STORE_RAISED_4XX: bool = _setting(default=False, rule=_boolean)
    STORE_5XX: bool = _setting(default=False, rule=_boolean)
    DROP_HEADERS: Collection[str] = _setting(
        (
            *("Set-Cookie", "Date", "Server-Timing", "X-Request-ID", "X-RateLimit-*"),
            # Hop-by-hop (RFC 9110 §7.6.1): they describe a connection, not a response.
            *("Connection", "Keep-Alive", "Proxy-*", "TE", "Trailer", "Transfer-Encoding"),
            "Upgrade",
        ),
        _names,
    )
    MAX_RESPONSE_BYTES: int = _setting(4 * 1024 * 1024, _whole(0, 2**30))
    BUFFER_STREAMS: bool = _setting(default=True, rule=_boolean)
    RECORD_REQUEST: str = _setting("fields", _one_of("fields", "body", "nothing"))
    REDACT: Collection[str] = _setting(
        (
            "*password*",
            "*secret*",
            "*token*",
            "*card*number*",
            "number",
            "cvc",
            "cvv",
            "pan",
            "iban",
        ),
        _names,
    )
    AUDIT: str = _setting("events", _one_of("events", "counts"))
    EXPOSE_EXPIRY: bool = _setting(default=False, rule=_boolean)
    ERROR_FORMAT: str = _setting("problem", _one_of("problem", "drf"))
    DOCS_URL: str = _setting("https://django-idempotency.readthedocs.io/en/latest/problems/", _text)

    @property
    def meta_name(self) -> str:
        """The header's name in ``request.META``."""
        return "HTTP_" + self.HEADER.upper().replace("-", "_")


class Problem(NamedTuple):
    name: str  # of the setting
    message: str
    hint: str
    unknown: bool  # there is no such setting


def problems(configured: Any) -> Iterator[Problem]:
    """What is wrong with an ``IDEMPOTENCY`` dict."""
    if not isinstance(configured, Mapping):
        yield Problem("IDEMPOTENCY", "IDEMPOTENCY must be a dict.", "Use IDEMPOTENCY = {}.", False)
        return
    rules: dict[str, Rule] = {f.name: f.metadata["rule"] for f in fields(Settings)}
    for name, value in configured.items():
        if name not in rules:
            near = get_close_matches(str(name).upper(), rules, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(rules)}."
            yield Problem(str(name), f"IDEMPOTENCY has no setting {name!r}.", hint, True)
        elif (wrong := rules[name](value)) is not None:
            message = f"IDEMPOTENCY[{name!r}] {wrong}, not {value!r}."
            yield Problem(name, message, f"The default is {_default(name)!r}.", False)


def _default(name: str) -> Any:
    return next(f.default for f in fields(Settings) if f.name == name)


@functools.cache
def get_settings() -> Settings:
    """The settings in force.

    Raises:
        ImproperlyConfigured: see :func:`problems`.
    """
    configured = getattr(django_settings, "IDEMPOTENCY", {})
    for problem in problems(configured):
        msg = f"{problem.message} {problem.hint}"
        raise ImproperlyConfigured(msg)
    return Settings(**configured)


@functools.cache
def secrets() -> tuple[bytes, ...]:
    """Keys of the fingerprint's HMAC, the current one first, 32 bytes each.

    From ``FINGERPRINT_KEYS``, else ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``: a rotated
    secret must not turn an honest retry into a conflict.
    """
    chosen: Collection[str | bytes] | None = get_settings().FINGERPRINT_KEYS
    if chosen is None:
        chosen = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    return tuple(_derive(secret) for secret in chosen)


def _derive(secret: str | bytes) -> bytes:
    # Its own purpose in the digest: a fingerprint can never serve as another signature.
    material = secret.encode() if isinstance(secret, str) else secret
    return hashlib.blake2b(material, person=b"dj.idempotency", digest_size=32).digest()


@receiver(setting_changed)
def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in {"IDEMPOTENCY", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        get_settings.cache_clear()
        secrets.cache_clear()
