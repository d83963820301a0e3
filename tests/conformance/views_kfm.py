"""Views and routes that the rows K, F and M need besides the usual ones; also a URLconf."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from tests.orders.models import Order
from tests.orders.views import OrderAPIView, described, drf_answer, place, plain_answer


class BytesParser(BaseParser):
    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return {"sku": str(len(stream.read()))}


class BytesView(IdempotentMixin, APIView):
    parser_classes = [BytesParser]

    def post(self, request: Any) -> Any:
        return drf_answer(request)


@csrf_exempt
@idempotent
def plain_bytes(request: Any) -> HttpResponse:
    order, _ = place(request, {"sku": str(len(request.body))})
    return JsonResponse(described(order), status=201)


@csrf_exempt
@idempotent
async def async_bytes(request: Any) -> HttpResponse:
    order = await Order.objects.acreate(sku=str(len(request.body)))
    return JsonResponse(described(order), status=201)


@csrf_exempt
@idempotent
async def async_form(request: Any) -> HttpResponse:
    data = request.POST
    order = await Order.objects.acreate(sku=data.get("sku", "tea"), qty=data.get("qty", 1))
    return JsonResponse(described(order), status=201)


class ExcludingView(OrderAPIView):
    idempotency_fingerprint_exclude = ["client_ts"]


@csrf_exempt
@idempotent(fingerprint_exclude=["client_ts"])
def plain_excluding(request: Any) -> HttpResponse:
    return plain_answer(request)


class ReadsTheBody(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return "sku" in request.data


class NosyPermissionView(OrderAPIView):
    permission_classes = [ReadsTheBody]


class CounterView(IdempotentMixin, APIView):
    def patch(self, request: Any, pk: int) -> Response:
        Order.objects.filter(pk=pk).update(qty=F("qty") + 1)
        return Response(described(Order.objects.get(pk=pk)))


class NumberedView(IdempotentMixin, APIView):
    def post(self, request: Any, pk: int) -> Any:
        return drf_answer(request)


@method_decorator([csrf_exempt, idempotent], name="dispatch")
class PostOnlyView(View):
    def post(self, request: Any) -> HttpResponse:
        return plain_answer(request)


@csrf_exempt
@idempotent
@require_POST
def plain_post_only(request: Any) -> HttpResponse:
    return plain_answer(request)


urlpatterns = [
    path("refunds/", OrderAPIView.as_view()),
    path("numbered/<int:pk>/", NumberedView.as_view()),
    path("counter/<int:pk>/", CounterView.as_view()),
    path("bytes/", BytesView.as_view()),
    path("plain-bytes/", plain_bytes),
    path("async-bytes/", async_bytes),
    path("async-form/", async_form),
    path("excluding/", ExcludingView.as_view()),
    path("plain-excluding/", plain_excluding),
    path("nosy/", NosyPermissionView.as_view()),
    path("post-only-class/", PostOnlyView.as_view()),
    path("post-only-plain/", plain_post_only),
    path("", include("tests.urls")),
]
