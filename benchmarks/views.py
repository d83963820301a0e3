"""One payment behind every variant; only who opens the transaction differs."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework import serializers
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.models import Account, Payment
from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.protocol import KeyedRequest, StoredResponse
from django_idempotency.rows import KeyRows

RESPONSE_BYTES = 300
WORK = 0.0025  # seconds that a whole request works besides: it then takes six milliseconds


class PaymentSerializer(serializers.Serializer[Any]):
    account = serializers.IntegerField()
    amount = serializers.IntegerField(min_value=1)
    currency = serializers.CharField(max_length=3)
    reference = serializers.CharField(max_length=50)


def pay(data: dict[str, Any]) -> dict[str, Any]:
    """SELECT FOR UPDATE, UPDATE, INSERT; the caller has opened the transaction."""
    account = Account.objects.select_for_update().get(pk=data["account"])
    account.balance -= data["amount"]
    account.save(update_fields=["balance"])
    payment = Payment.objects.create(
        account=account,
        amount=data["amount"],
        currency=data["currency"],
        reference=data["reference"],
    )
    answer = {"id": str(payment.pk), **data, "status": "succeeded", "note": ""}
    answer["note"] = "." * (RESPONSE_BYTES - len(json.dumps(answer)))
    return answer


def unprotected(request: HttpRequest) -> HttpResponse:
    return JsonResponse(pay(json.loads(request.body)), status=201)


def bare(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        answer = pay(json.loads(request.body))
    return JsonResponse(answer, status=201)


protected = idempotent(unprotected)


def statements_alone(request: HttpRequest) -> HttpResponse:
    """What the statements of protection take, with nothing around them: not a protection.

    It reads no body, compares no request and asks nobody whose key it is.
    """
    key = request.headers["Idempotency-Key"]
    keyed = KeyedRequest(
        scope="user:1",
        key=key,
        fingerprints=("f" * 64,),
        method="POST",
        path="/payments/",
        route="payments/",
        retention=timedelta(hours=24),
    )
    rows = KeyRows(keyed, "default")
    found = rows.claim()
    if found is None:
        with transaction.atomic():
            rows.lock()
            response = unprotected(request)
            stored = StoredResponse(status=response.status_code, body=response.content)
            rows.complete(stored, duration_ms=0)
        return response
    response = HttpResponse(found.response.body, status=found.response.status)
    response["Idempotent-Replayed"] = "true"
    rows.count("replayed", status=201, duration_ms=0, evidence={}, events=True)
    return response


# A view that keeps the atomic() it had: two more round trips, for a savepoint.
protected_with_savepoint = idempotent(bare)


class BareAPIView(APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        serializer = PaymentSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            answer = pay(serializer.validated_data)
        return Response(answer, status=201)


class ProtectedAPIView(IdempotentMixin, APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        serializer = PaymentSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(pay(serializer.validated_data), status=201)


def working(seconds: float) -> dict[str, Any]:
    """The views by name, bare and protected, with so much work more inside.

    They sleep: no processor and no database makes that shorter or longer.
    """

    def slow(request: HttpRequest) -> HttpResponse:
        time.sleep(seconds)
        return JsonResponse(pay(json.loads(request.body)), status=201)

    class SlowAPIView(BareAPIView):
        def post(self, request: Request) -> Response:
            time.sleep(seconds)
            return super().post(request)

    class ProtectedSlowAPIView(ProtectedAPIView):
        def post(self, request: Request) -> Response:
            time.sleep(seconds)
            return super().post(request)

    return {
        "view, bare": transaction.atomic(slow),
        "view, protected": idempotent(slow),
        "APIView, bare": SlowAPIView.as_view(),
        "APIView, protected": ProtectedSlowAPIView.as_view(),
    }


# Most benchmarks call the views; some send whole requests.
BARE, PROTECTED = "whole/bare/", "whole/protected/"
_whole = working(WORK)
urlpatterns = [
    path("payments/", csrf_exempt(protected)),
    path("api/payments/", ProtectedAPIView.as_view()),
    path(BARE, _whole["APIView, bare"]),
    path(PROTECTED, _whole["APIView, protected"]),
]
