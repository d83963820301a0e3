"""Users that are as little like Django's own as ``AUTH_USER_MODEL`` allows."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class Employee(AbstractBaseUser):
    """No ``username``, no groups, a number to sign in with and an id that is no number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    badge = models.IntegerField(unique=True)
    called = models.CharField(max_length=50)
    is_staff = models.BooleanField(default=True)
    may = models.JSONField(default=list)  # names of permissions

    USERNAME_FIELD = "badge"

    objects = BaseUserManager["Employee"]()

    def __str__(self) -> str:
        return self.called

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return perm in self.may

    def has_module_perms(self, app_label: str) -> bool:
        return any(perm.startswith(f"{app_label}.") for perm in self.may)
