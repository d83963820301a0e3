"""One operation behind every way in. What it does depends on the body and on ``BEHAVIOUR``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework import serializers, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent

from .models import Order

# A test puts a function here to decide what the view does after it has written its row:
# (request, order) -> response, or None for the usual 201. It may raise.
BEHAVIOUR: dict[str, Callable[[Any, Order], Any]] = {}


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ("id", "sku", "qty")


def place(request: Any, data: Any) -> tuple[Order, Any]:
    order = Order.objects.create(sku=data.get("sku", "tea"), qty=data.get("qty", 1))
    behave = BEHAVIOUR.get("after")
    return order, behave(request, order) if behave else None


def described(order: Order) -> dict[str, Any]:
    return {"id": order.pk, "sku": order.sku, "qty": order.qty}


def drf_answer(request: Any) -> Any:
    order, response = place(request, request.data)
    location = {"Location": f"/orders/{order.pk}/"}
    return response or Response(described(order), status=201, headers=location)


def plain_answer(request: Any) -> Any:
    data = json.loads(request.body) if request.content_type == "application/json" else request.POST
    order, response = place(request, data)
    return response or JsonResponse(
        described(order), status=201, headers={"Location": f"/orders/{order.pk}/"}
    )


class OrderAPIView(IdempotentMixin, APIView):
    def get(self, request: Any) -> Response:
        return Response({"orders": Order.objects.count()})

    def post(self, request: Any) -> Any:
        return drf_answer(request)

    def patch(self, request: Any) -> Any:
        return drf_answer(request)

    def put(self, request: Any) -> Any:
        return drf_answer(request)

    def delete(self, request: Any) -> Response:
        Order.objects.all().delete()
        return Response(status=204)


class OrderViewSet(IdempotentMixin, viewsets.ModelViewSet):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return drf_answer(request)

    @action(detail=False, methods=["post", "patch"])
    @idempotent
    def reorder(self, request: Any) -> Any:
        return drf_answer(request)

    @action(detail=False, methods=["post"])
    @idempotent(required=True)
    def strict(self, request: Any) -> Any:
        return drf_answer(request)


@idempotent
@api_view(["POST", "PATCH"])
def api_function(request: Any) -> Any:
    return drf_answer(request)


@csrf_exempt
@idempotent
def plain_function(request: Any) -> HttpResponse:
    return plain_answer(request)


@method_decorator([csrf_exempt, idempotent], name="dispatch")
class PlainView(View):
    def post(self, request: Any) -> HttpResponse:
        return plain_answer(request)

    patch = post


@csrf_exempt
@idempotent
async def async_function(request: Any) -> HttpResponse:
    data = json.loads(request.body)
    order = await Order.objects.acreate(sku=data.get("sku", "tea"), qty=data.get("qty", 1))
    behave = BEHAVIOUR.get("after")
    response = behave(request, order) if behave else None
    return response or JsonResponse(
        described(order), status=201, headers={"Location": f"/orders/{order.pk}/"}
    )


class RequiredView(OrderAPIView):
    idempotency_required = True


@csrf_exempt
def unprotected(request: Any) -> HttpResponse:
    return plain_answer(request)
