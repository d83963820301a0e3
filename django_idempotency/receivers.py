"""What happens elsewhere in the project and concerns keys."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.signals import post_delete

from .conf import get_settings
from .models import IdempotencyKey
from .upkeep import forget_finished

__all__ = ["connect"]


def connect() -> None:
    """Listen to the user model and its proxies: each is a sender of its own."""
    user = get_user_model()
    for model in apps.get_models():
        if model._meta.concrete_model is user:
            uid = f"django_idempotency.forget_user.{model._meta.label}"
            post_delete.connect(forget_user, sender=model, dispatch_uid=uid)


def forget_user(*, instance: Any, **kwargs: Any) -> None:
    """Delete a deleted user's finished keys: a new user may get the same primary key."""
    scope = f"user:{instance.pk}"
    theirs = Q(scope=scope)
    if get_settings().SCOPE == "user+route":
        theirs |= Q(scope__startswith=f"{scope} ")
    forget_finished(IdempotencyKey.objects.filter(theirs))
