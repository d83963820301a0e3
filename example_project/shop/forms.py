from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django import forms

from .models import GuestOrder

if TYPE_CHECKING:
    _Base = forms.ModelForm[GuestOrder]
else:
    _Base = forms.ModelForm  # cannot be subscripted when it runs


class CheckoutForm(_Base):
    """An order with its key: each new form has a fresh one, a second click sends it again."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, initial=uuid.uuid4, required=False)

    class Meta:
        model = GuestOrder
        fields = ("email", "item", "quantity")
