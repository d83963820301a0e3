"""The least that a real write does: a balance under a lock and a row that tells why."""

from __future__ import annotations

import uuid

from django.db import models


class Account(models.Model):
    balance = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.pk)


class Payment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    account = models.ForeignKey(Account, models.PROTECT)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    reference = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.reference
