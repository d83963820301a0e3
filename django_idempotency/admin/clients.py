"""Whose key it is: scopes by the names of the users they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.urls import reverse

if TYPE_CHECKING:
    from typing import Any

    from django.contrib.admin import AdminSite
    from django.db.models import Field
    from django.http import HttpRequest

__all__ = ["Client", "clients_of", "scope_of_user"]

_USER = re.compile(r"user:(\S+)(?: .*)?")  # user+route scopes name the endpoint after a space


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A scope; ``name`` and ``url`` are empty unless a user stands behind it."""

    scope: str
    name: str = ""
    url: str = ""  # the user's own page in this admin, if the viewer may open it

    @property
    def label(self) -> str:
        return self.name or self.scope


def clients_of(scopes: Iterable[str], site: AdminSite, request: HttpRequest) -> dict[str, Client]:
    """Every scope with what is known of it, in one query, or none if no scope is a user's."""
    users = {scope: _user_pk(scope) for scope in set(scopes)}
    wanted = {pk for pk in users.values() if pk is not None}
    model = get_user_model()
    found = {user.pk: user for user in model._default_manager.filter(pk__in=wanted)}
    linked = bool(found) and _may_open_users(site, request)
    known = {}
    for scope, pk in users.items():
        user = None if pk is None else found.get(pk)
        url = _user_url(site, user.pk) if user is not None and linked else ""
        known[scope] = Client(scope=scope, name="" if user is None else str(user), url=url)
    return known


def scope_of_user(name: str) -> str | None:
    """The scope of the user who signs in with ``name``."""
    model = get_user_model()
    try:
        named = model._default_manager.filter(**{model.USERNAME_FIELD: name})
    except (ValidationError, TypeError, ValueError):  # they may sign in with a number
        return None
    pk = named.values_list("pk", flat=True).first()
    return None if pk is None else f"user:{pk}"


def _user_pk(scope: str) -> Any | None:
    """The primary key that a scope names; None if it names none that could be stored."""
    found = _USER.fullmatch(scope)
    if found is None:
        return None
    field: Field[Any, Any] = get_user_model()._meta.pk
    while field.remote_field:  # a user model with a parent
        field = field.target_field  # type: ignore[attr-defined]
    try:
        value = field.to_python(found[1])
        field.run_validators(value)  # a number may be too large for its column
    except ValidationError:
        return None
    return value


def _may_open_users(site: AdminSite, request: HttpRequest) -> bool:
    model = get_user_model()
    if not site.is_registered(model):
        return False
    return site.get_model_admin(model).has_view_or_change_permission(request)


def _user_url(site: AdminSite, pk: Any) -> str:
    meta = get_user_model()._meta
    name = f"{site.name}:{meta.app_label}_{meta.model_name}_change"
    return reverse(name, args=(pk,), current_app=site.name)
