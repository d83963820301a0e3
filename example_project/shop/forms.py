from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django import forms

from .models import GuestOrder

if TYPE_CHECKING:
    _Base = forms.ModelForm[GuestOrder]
else:
    _Base = forms.ModelForm  # cannot be subscripted when it runs


class CheckoutForm(_Base):
    """An order with its key: each rendered form has a fresh one, a second click sends it again."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, initial=uuid.uuid4, required=False)

    class Meta:
        model = GuestOrder
        fields = ("email", "item", "quantity")

    def renew_key(self) -> None:
        """A corrected form is another request; under the old key it would be a conflict."""
        posted: Any = self.data  # a QueryDict, which the stubs do not know
        self.data = {**posted.dict(), "idempotency_key": str(uuid.uuid4())}
