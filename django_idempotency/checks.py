"""``manage.py check``: settings, the database and the places where protection was put."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import Error as DatabaseError
from django.db import connections, router
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

from .conf import problems
from .decorators import BELOW_API_VIEW, ON_DISPATCH, WITHOUT_MIXIN
from .mixins import IdempotentMixin
from .models import IdempotencyKey
from .policy import misspelled

__all__ = ["register"]

_TIMEOUTS = {
    "idle_in_transaction_session_timeout": (
        "a worker that hangs keeps its key locked for ever",
        "W002",
    ),
    "client_connection_check_interval": (
        "a worker killed during a long statement keeps its key locked until that ends",
        "W003",
    ),
}


def register() -> None:
    checks.register(check_settings, "django_idempotency")
    checks.register(check_views, "django_idempotency")
    checks.register(check_database, checks.Tags.database)
    checks.register(check_engine, "django_idempotency")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: unknown setting. E002: bad value."""
    return [
        checks.Error(
            problem.message,
            hint=problem.hint,
            id=f"django_idempotency.{'E001' if problem.unknown else 'E002'}",
        )
        for problem in problems(getattr(settings, "IDEMPOTENCY", {}))
    ]


def check_engine(**kwargs: Any) -> list[CheckMessage]:
    """E003: no row locks. E004: SQLite without IMMEDIATE. E005: autocommit off."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    found: list[CheckMessage] = []
    if connection.vendor == "sqlite":
        if options.get("transaction_mode") != "IMMEDIATE":
            found.append(
                checks.Error(
                    f"DATABASES[{alias!r}] is SQLite with deferred transactions: concurrent "
                    "requests fail with 'database is locked'.",
                    hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE"}.',
                    id="django_idempotency.E004",
                )
            )
    elif connection.vendor not in {"postgresql", "mysql"}:
        found.append(
            checks.Error(
                f"DATABASES[{alias!r}] ({connection.vendor}) is not known to lock rows as "
                "idempotency keys need it.",
                hint="Use PostgreSQL, MySQL, MariaDB or SQLite for the key table.",
                id="django_idempotency.E003",
            )
        )
    if not connection.settings_dict.get("AUTOCOMMIT", True):
        found.append(
            checks.Error(
                f"DATABASES[{alias!r}] has AUTOCOMMIT off, so no key can be claimed and committed.",
                hint="Remove AUTOCOMMIT = False.",
                id="django_idempotency.E005",
            )
        )
    return found


def check_database(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W002, W003: PostgreSQL time-outs that free the key of a dead worker. E003: too old."""
    alias = router.db_for_write(IdempotencyKey)
    connection = connections[alias]
    if alias not in (databases or ()):
        return []
    try:
        if connection.vendor == "postgresql":
            return list(_timeouts(connection))
        lacks = connection.vendor == "mysql" and not (
            connection.features.has_select_for_update_skip_locked
        )
    except DatabaseError:
        return []  # not there: the first request will say so with 503
    if not lacks:
        return []
    return [
        checks.Error(
            f"DATABASES[{alias!r}] is too old to skip locked rows.",
            hint="Use MySQL 8.0.1, MariaDB 10.6 or newer.",
            id="django_idempotency.E003",
        )
    ]


def _timeouts(connection: Any) -> Iterator[CheckMessage]:
    with connection.cursor() as cursor:
        for name, (danger, number) in _TIMEOUTS.items():
            cursor.execute("SELECT setting FROM pg_settings WHERE name = %s", [name])
            row = cursor.fetchone()
            if row is None or row[0] != "0":
                continue
            yield checks.Warning(
                f"PostgreSQL's {name} is off: {danger}.",
                hint=f'Set it, for example OPTIONS = {{"options": "-c {name}=60000"}} '
                "(milliseconds).",
                id=f"django_idempotency.{number}",
            )


def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E006-E010: places where protection cannot work. W001: rows and keys apart."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: dict[str, CheckMessage] = {}
    for callback in _callbacks(get_resolver()):
        cls = getattr(callback, "cls", None)
        if isinstance(cls, type) and issubclass(cls, APIView):
            protected = issubclass(cls, IdempotentMixin)
            messages = _protection(cls) if protected else _placement(cls)
        else:
            messages = _ninja(callback)
        for message in messages:
            found.setdefault(message.msg, message)
    return list(found.values())


def _protection(cls: Any) -> Iterator[CheckMessage]:
    """What a class with the mixin gets wrong."""
    for name in cls.idempotency_actions or ():
        if not hasattr(cls, name):
            hint = misspelled(name, [known for known in dir(cls) if not known.startswith("_")])
            text = f"{cls.__name__}.idempotency_actions names {name!r}, which {cls.__name__} lacks."
            yield _error(text + hint, "E009")
    model = getattr(getattr(cls, "queryset", None), "model", None)
    if model is None:
        return
    rows, keys = router.db_for_write(model), router.db_for_write(IdempotencyKey)
    if rows != keys:
        yield checks.Warning(
            f"{cls.__name__} writes {model._meta.label} to the database {rows!r}, its keys are in "
            f"{keys!r}: a crash between the two commits leaves one without the other.",
            hint="Let the router put django_idempotency into the database of the rows it guards.",
            id="django_idempotency.W001",
        )


def _ninja(callback: Any) -> Iterator[CheckMessage]:
    """Operations of django-ninja, whose views nobody has taken out of ATOMIC_REQUESTS."""
    taken_out = getattr(callback, "_non_atomic_requests", ())
    wrapped = [
        connection
        for connection in connections.all()
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.alias not in taken_out
    ]
    if not wrapped or not inspect.isfunction(callback):
        return
    # ninja makes one function for each path and keeps the operations in its closure.
    owner = inspect.getclosurevars(callback).nonlocals.get("self")
    for operation in getattr(owner, "operations", ()):
        if hasattr(operation.run, "idempotency_policy"):
            yield checks.Error(
                f"ATOMIC_REQUESTS wraps the django-ninja operation {operation.view_func.__name__} "
                "in a transaction, which @idempotent must open itself.",
                hint="Take the API out: urls = api.urls, then non_atomic_requests(pattern.callback)"
                " for each pattern in urls[0].",
                id="django_idempotency.E010",
            )


def _placement(cls: type[APIView]) -> Iterator[CheckMessage]:
    """Decorators in a class without the mixin."""
    if hasattr(cls.dispatch, "idempotency_policy"):
        yield _error(ON_DISPATCH.format(name=cls.__name__), "E008")
    for name, member in inspect.getmembers(cls, callable):
        if name == "dispatch":
            continue
        if hasattr(member, "idempotency_policy"):
            text = WITHOUT_MIXIN.format(name=f"{cls.__name__}.{name}", cls=cls.__name__)
            yield _error(text, "E007")
        elif name in cls.http_method_names and inspect.isfunction(member):
            # @api_view keeps the function it was given in the handler's closure.
            func = inspect.getclosurevars(member).nonlocals.get("func")
            if hasattr(func, "idempotency_policy"):
                yield _error(BELOW_API_VIEW.format(name=cls.__name__), "E006")


def _error(message: str, number: str) -> CheckMessage:
    return checks.Error(message, id=f"django_idempotency.{number}")


def _callbacks(resolver: URLResolver) -> Iterator[Any]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _callbacks(entry)
        elif isinstance(entry, URLPattern):
            yield entry.callback
