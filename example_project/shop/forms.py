from __future__ import annotations

import uuid

from django import forms

from .models import GuestOrder


class CheckoutForm(forms.ModelForm[GuestOrder]):
    """An order with its key: each rendered form has a fresh one, a second click sends it again."""

    idempotency_key = forms.CharField(
        widget=forms.HiddenInput, initial=uuid.uuid4, required=False
    )

    class Meta:
        model = GuestOrder
        fields = ("email", "item", "quantity")
