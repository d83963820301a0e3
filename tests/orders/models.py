"""The effect that tests count: one row per order that was really placed."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class Order(models.Model):
    sku = models.CharField(max_length=50)
    qty = models.IntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.qty} x {self.sku}"


if not User._meta.swapped:  # as in settings_own_user, where no class can stand for it

    class Person(User):
        """The same users under another name, as sites have it."""

        class Meta:
            proxy = True
            app_label = "auth"  # an app with migrations, as the users' own
