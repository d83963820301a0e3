"""The ways to protect a write, one view each. Return and it is final; raise and it never was."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework import status, viewsets
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, Undone, idempotent

from .forms import CheckoutForm
from .models import Account, GuestOrder, Payment
from .serializers import (
    GuestOrderSerializer,
    ImportSerializer,
    PaymentSerializer,
    RefundSerializer,
)


class PaymentViewSet(IdempotentMixin, viewsets.ModelViewSet[Payment]):
    """Payments move money, so a request without a key is refused."""

    idempotency_required = True
    serializer_class = PaymentSerializer
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "head", "options"]  # a payment is never edited

    def get_queryset(self) -> QuerySet[Payment]:
        return Payment.objects.filter(account__owner=self.request.user.pk)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the amount from the account: deduct, insert, both or neither."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)  # raised: the key stays free for a better try
        chosen = serializer.validated_data["account"]
        account = Account.objects.select_for_update().get(pk=chosen.pk)
        if account.balance < serializer.validated_data["amount"]:
            # Returned: retries get this answer, even when money has arrived meanwhile.
            problem = {"detail": "The balance is too low.", "balance": account.balance}
            return Response(problem, status=status.HTTP_402_PAYMENT_REQUIRED)
        account.balance -= serializer.validated_data["amount"]
        account.save(update_fields=["balance"])
        serializer.save()
        return Response(serializer.data, status=status.HTTP_201_CREATED)

    @action(detail=True, methods=["post"])
    @idempotent(required=True, retention=timedelta(days=7))
    def refunds(self, request: Request, pk: int) -> Response:
        """Give back part of a payment; support tools retry these for days."""
        # The lock is on the payment: two refunds of it must see each other.
        # Without the account that is joined to it, where the database can tell them apart.
        of = ("self",) if connection.features.has_select_for_update_of else ()
        payment = get_object_or_404(self.get_queryset().select_for_update(of=of), pk=pk)
        serializer = RefundSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        amount = serializer.validated_data["amount"]
        refunded = payment.refunds.aggregate(total=Sum("amount"))["total"] or 0
        if refunded + amount > payment.amount:
            left = payment.amount - refunded
            raise ValidationError({"amount": [f"At most {left} can be refunded."]})
        serializer.save(payment=payment)
        Account.objects.filter(pk=payment.account_id).update(balance=F("balance") + amount)
        return Response(serializer.data, status=status.HTTP_201_CREATED)


@idempotent
@api_view(["POST"])
@permission_classes([AllowAny])
def guest_checkout(request: Request) -> Response:
    """Anyone may order. Guests share one scope, so their keys must be hard to guess."""
    serializer = GuestOrderSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    serializer.save()
    return Response(serializer.data, status=status.HTTP_201_CREATED)


class OrderImportView(IdempotentMixin, APIView):
    """A CSV file of orders, all or none. A retry may spell the multipart body differently."""

    idempotency_required = True
    parser_classes = [MultiPartParser]

    def post(self, request: Request) -> Response:
        upload = ImportSerializer(data=request.data)
        upload.is_valid(raise_exception=True)
        try:
            text = upload.validated_data["file"].read().decode()
        except UnicodeDecodeError as error:
            raise ValidationError({"file": ["The file is not UTF-8."]}) from error
        rows = list(csv.DictReader(io.StringIO(text)))
        orders = GuestOrderSerializer(data=rows, many=True, allow_empty=False)
        orders.is_valid(raise_exception=True)
        orders.save()
        return Response({"imported": len(rows)}, status=status.HTTP_201_CREATED)


@idempotent(key_field="idempotency_key", in_flight="wait")
def checkout(request: HttpRequest) -> HttpResponse:
    """A plain HTML form. The second click waits for the first and lands on the same page."""
    form = CheckoutForm(request.POST or None)
    if form.is_valid():
        order = form.save()
        return redirect("checkout-done", number=order.number)
    page = render(request, "shop/checkout.html", {"form": form})
    if form.is_bound:
        raise Undone(page)  # shown again with its mistakes: nothing is decided, the key stays free
    return page


def checkout_done(request: HttpRequest, number: uuid.UUID) -> HttpResponse:
    order = get_object_or_404(GuestOrder, number=number)
    return render(request, "shop/checkout_done.html", {"order": order})


@csrf_exempt  # it asks for no cookie, so there is nothing to forge
@require_POST
@idempotent
async def async_order(request: HttpRequest) -> JsonResponse:
    """An async view: its database calls share the transaction of its key."""
    try:
        serializer = GuestOrderSerializer(data=json.loads(request.body))
    except ValueError:
        return JsonResponse({"detail": "This is not JSON."}, status=400)
    if not serializer.is_valid():
        # Returned, so it is final: the corrected order is another request, with a new key.
        return JsonResponse(serializer.errors, status=400)
    order = await GuestOrder.objects.acreate(**serializer.validated_data)
    return JsonResponse(GuestOrderSerializer(order).data, status=201)
