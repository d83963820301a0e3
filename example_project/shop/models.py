"""A small shop. Money is in cents; what a wrong retry would break is a constraint, too."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

_at_least_one = MinValueValidator(1)


class Account(models.Model):
    """What a customer's payments are taken from."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="accounts")
    name = models.CharField(max_length=80)
    balance = models.BigIntegerField(default=0)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(balance__gte=0), name="shop_account_not_overdrawn"),
        )

    def __str__(self) -> str:
        return self.name


class Payment(models.Model):
    account = models.ForeignKey(Account, models.PROTECT, related_name="payments")
    amount = models.PositiveIntegerField(validators=[_at_least_one])
    reference = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.reference


class Refund(models.Model):
    payment = models.ForeignKey(Payment, models.PROTECT, related_name="refunds")
    amount = models.PositiveIntegerField(validators=[_at_least_one])
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.amount} of {self.payment}"


class GuestOrder(models.Model):
    """An order by someone without an account; its number cannot be guessed."""

    number = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    email = models.EmailField()
    item = models.CharField(max_length=80)
    quantity = models.PositiveIntegerField(default=1, validators=[_at_least_one])
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.number)
