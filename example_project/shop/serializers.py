from __future__ import annotations

from typing import Any

from rest_framework import serializers

from .models import Account, GuestOrder, Payment, Refund


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    class Meta:
        model = Payment
        fields = ("id", "account", "amount", "reference", "created_at")

    def validate_account(self, account: Account) -> Account:
        """Someone else's account looks like one that does not exist."""
        if account.owner_id != self.context["request"].user.pk:
            msg = f'Invalid pk "{account.pk}" - object does not exist.'
            raise serializers.ValidationError(msg, code="does_not_exist")
        return account


class RefundSerializer(serializers.ModelSerializer[Refund]):
    class Meta:
        model = Refund
        fields = ("id", "payment", "amount", "created_at")
        read_only_fields = ("payment",)


class GuestOrderSerializer(serializers.ModelSerializer[GuestOrder]):
    class Meta:
        model = GuestOrder
        fields = ("number", "email", "item", "quantity")


class ImportSerializer(serializers.Serializer[Any]):
    file = serializers.FileField()
