"""One view per way of writing: each leaves exactly one ``Order`` whose sku is the request's.

``X-Provoke: 1`` makes a shape misbehave in its own manner, ``X-Provoke: fail`` makes any
shape raise after it has written. Headers are no part of a fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from tests.orders.models import Order

NOTIFY: list[Callable[[int], None]] = []  # what on_commit() calls, with the order's id
STOCK = "stock-"  # before the sku of the row that ``update`` takes one from
IN_STOCK = 10


def create(data: Any, provoked: bool) -> Order:
    return Order.objects.create(sku=data["sku"], qty=data["qty"])


def update(data: Any, provoked: bool) -> Order:
    stock = Order.objects.select_for_update().get(sku=STOCK + data["sku"])
    stock.qty -= 1
    stock.save(update_fields=["qty"])
    return create(data, provoked)


def nested(data: Any, provoked: bool) -> Order:
    """An inner transaction that holds, and one that fails and is undone, as it should be."""
    with transaction.atomic():
        order = create(data, provoked)
    with suppress(DatabaseError), transaction.atomic():
        create(data, provoked)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
    return order


def on_commit(data: Any, provoked: bool) -> Order:
    order = create(data, provoked)
    transaction.on_commit(lambda: [notify(order.pk) for notify in NOTIFY])
    return order


def raised(data: Any, provoked: bool) -> Order:
    order = create(data, provoked)
    if provoked:
        raise ValidationError(data)
    return order


def swallow_orm(data: Any, provoked: bool) -> Order:
    """Goes on after a failed ``save()``, be it a duplicate or a connection that broke."""
    order = create(data, provoked)
    with suppress(DatabaseError):
        if provoked:
            Order(pk=order.pk, sku="twice").save(force_insert=True)
        else:
            Order.objects.filter(pk=order.pk).update(qty=order.qty)
    return order


def swallow_sql(data: Any, provoked: bool) -> Order:
    """Goes on after a failed statement that Django's transactions never hear of."""
    order = create(data, provoked)
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT 1/0" if provoked else "SELECT 1/1")
    return order


SHAPES = {
    shape.__name__: shape
    for shape in (create, update, nested, on_commit, raised, swallow_orm, swallow_sql)
} | {"returned": create, "unrenderable": create}


def described(order: Order) -> dict[str, Any]:
    return {"id": order.pk, "sku": order.sku}


class ProofView(IdempotentMixin, APIView):
    def post(self, request: Any, shape: str) -> Response:
        provoke = request.headers.get("X-Provoke", "")
        order = SHAPES[shape](request.data, provoke == "1")
        if provoke == "fail":
            raise RuntimeError(provoke)
        status = 402 if shape == "returned" else 201
        content: Any = described(order)
        if shape == "unrenderable" and provoke == "1":
            content["object"] = object()
        return Response(content, status=status)


@csrf_exempt
@idempotent
def plain(request: Any) -> HttpResponse:
    order = create(json.loads(request.body), provoked=False)
    if request.headers.get("X-Provoke") == "fail":
        raise RuntimeError
    return JsonResponse(described(order), status=201)


@csrf_exempt
@idempotent
async def asynchronous(request: Any) -> HttpResponse:
    data = json.loads(request.body)
    order = await Order.objects.acreate(sku=data["sku"], qty=data["qty"])
    if request.headers.get("X-Provoke") == "fail":
        raise RuntimeError
    return JsonResponse(described(order), status=201)


def health(request: Any) -> HttpResponse:
    """Touches neither keys nor the database."""
    return HttpResponse("ok")
