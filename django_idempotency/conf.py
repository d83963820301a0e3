"""The ``IDEMPOTENCY`` setting: one dict, read into a frozen dataclass.

A name that does not exist or a value that makes no sense is reported by ``manage.py check``
with a hint, and raises ``ImproperlyConfigured`` should the checks have been skipped.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

from . import rules

__all__ = ["Settings", "get_settings", "problems", "secrets"]


UUID_LENGTH = 36  # characters, with its hyphens


def _setting(default: Any, rule: rules.Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # hashed by identity, for caches
class Settings:
    """One field per setting, its default beside it. Durations are ``timedelta``."""

    HEADER: str = _setting("Idempotency-Key", rules.header)
    METHODS: Collection[str] = _setting(("POST", "PATCH"), rules.methods)
    REQUIRED: bool = _setting(default=False, rule=rules.boolean)
    KEY_SYNTAX: str = _setting("lenient", rules.one_of("lenient", "strict"))
    KEY_MIN_LENGTH: int = _setting(1, rules.whole(1, 255))
    KEY_MAX_LENGTH: int = _setting(255, rules.whole(1, 255))
    KEY_PATTERN: str | None = _setting(None, rules.pattern)
    SCOPE: Any = _setting("user", rules.calls("user", "user+route"))
    ANONYMOUS: str = _setting("shared", rules.one_of("shared", "reject", "session"))
    KEYS_PER_SCOPE: int | None = _setting(None, rules.optional(rules.whole(1, 10_000_000)))
    FINGERPRINT: Any = _setting(None, rules.calls(None))
    FINGERPRINT_HEADERS: Collection[str] = _setting((), rules.names)
    FINGERPRINT_KEYS: Collection[str] | None = _setting(None, rules.secret_list)
    RETENTION: timedelta = _setting(timedelta(hours=24), rules.duration)
    ON_EXPIRED: str = _setting("execute", rules.one_of("execute", "reject"))
    MAX_CRASHES: int = _setting(10, rules.whole(1, 10_000))
    IN_FLIGHT: str = _setting("reject", rules.one_of("reject", "wait"))
    IN_FLIGHT_STATUS: int = _setting(409, rules.one_of(409, 423, 503))
    WAIT: timedelta = _setting(timedelta(seconds=5), rules.duration)
    MISMATCH_STATUS: int = _setting(422, rules.one_of(422, 409, 400))
    NEVER_STORE: Collection[int] = _setting(
        frozenset({401, 403, 408, 423, 425, 429}), rules.statuses
    )
    STORE_RAISED_4XX: bool = _setting(default=False, rule=rules.boolean)
    STORE_5XX: bool = _setting(default=False, rule=rules.boolean)
    DROP_HEADERS: Collection[str] = _setting(
        (
            *("Set-Cookie", "Date", "Server-Timing", "X-Request-ID", "X-RateLimit-*"),
            # Hop-by-hop (RFC 9110 §7.6.1): they describe a connection, not a response.
            *("Connection", "Keep-Alive", "Proxy-*", "TE", "Trailer", "Transfer-Encoding"),
            "Upgrade",
        ),
        rules.names,
    )
    MAX_RESPONSE_BYTES: int = _setting(4 * 1024 * 1024, rules.whole(0, 2**30))
    BUFFER_STREAMS: bool = _setting(default=True, rule=rules.boolean)
    RECORD_REQUEST: str = _setting("fields", rules.one_of("fields", "body", "nothing"))
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
        rules.names,
    )
    AUDIT: str = _setting("events", rules.one_of("events", "counts"))
    EXPOSE_EXPIRY: bool = _setting(default=False, rule=rules.boolean)
    ERROR_FORMAT: str = _setting("problem", rules.one_of("problem", "drf"))
    DOCS_URL: str = _setting(
        "https://django-idempotency.readthedocs.io/en/latest/problems/", rules.address
    )

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
    found = list(_single(configured))
    yield from found or _together(configured)


def _single(configured: Mapping[str, Any]) -> Iterator[Problem]:
    """Names and values, one by one."""
    known: dict[str, rules.Rule] = {f.name: f.metadata["rule"] for f in fields(Settings)}
    for name, value in configured.items():
        if name not in known:
            near = get_close_matches(str(name).upper(), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            yield Problem(str(name), f"IDEMPOTENCY has no setting {name!r}.", hint, True)
        elif (wrong := known[name](value)) is not None:
            # Secrets, even wrong ones, do not belong in a terminal or in the log of a build.
            said = "" if name == "FINGERPRINT_KEYS" else f", not {value!r}"
            hint = rules.cure(wrong, value) or f"The default is {_default(name)!r}."
            yield Problem(name, f"IDEMPOTENCY[{name!r}] {wrong}{said}.", hint, False)


def _together(configured: Mapping[str, Any]) -> Iterator[Problem]:
    """Values that are sound and make no sense beside each other: no key could be valid."""
    yield from _silenced(configured)
    least, most, pattern = (
        configured.get(name, _default(name))
        for name in ("KEY_MIN_LENGTH", "KEY_MAX_LENGTH", "KEY_PATTERN")
    )
    if least > most:
        yield Problem(
            "KEY_MIN_LENGTH",
            f"IDEMPOTENCY['KEY_MIN_LENGTH'] is {least} and KEY_MAX_LENGTH is {most}, so that no "
            "key can be valid.",
            "Swap them, or leave one of them out.",
            False,
        )
        return
    if pattern == "uuid" and not least <= UUID_LENGTH <= most:
        yield Problem(
            "KEY_PATTERN",
            f"IDEMPOTENCY['KEY_PATTERN'] is 'uuid', which takes {UUID_LENGTH} characters, and the "
            f"allowed lengths are {least} to {most}, so that no key can be valid.",
            "Leave KEY_MIN_LENGTH and KEY_MAX_LENGTH out.",
            False,
        )


def _silenced(configured: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings that a callable beside them leaves without effect."""
    scope = configured.get("SCOPE", "user")
    if configured.get("ANONYMOUS", "shared") != "shared" and scope not in ("user", "user+route"):
        yield Problem(
            "ANONYMOUS",
            "IDEMPOTENCY['ANONYMOUS'] has no effect, because the callable in SCOPE decides.",
            "Leave ANONYMOUS out. To refuse visitors, raise "
            "django_idempotency.exceptions.AnonymousRefused in the callable.",
            False,
        )
    if configured.get("FINGERPRINT") is not None and configured.get("FINGERPRINT_HEADERS"):
        yield Problem(
            "FINGERPRINT_HEADERS",
            "IDEMPOTENCY['FINGERPRINT_HEADERS'] has no effect, because the callable in FINGERPRINT "
            "decides what is compared.",
            "Leave FINGERPRINT_HEADERS out, and read the headers in the callable.",
            False,
        )


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
