"""A documented API with a planted fault in each view but the first; served below ``faults/``."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import path
from rest_framework.generics import CreateAPIView
from rest_framework.response import Response

from django_idempotency import IdempotentMixin
from tests.orders.views import OrderSerializer


class Sound(IdempotentMixin, CreateAPIView):
    idempotency_required = True
    serializer_class = OrderSerializer


class Answers500(Sound):
    def perform_create(self, serializer: Any) -> None:
        if serializer.validated_data.get("qty", 1) > 100:
            msg = "planted"
            raise RuntimeError(msg)
        super().perform_create(serializer)


class EachTimeAnotherScope(Sound):
    """Nobody is ever the same caller again: the key protects nothing."""

    def get_idempotency_scope(self, request: Any) -> str:
        return str(uuid.uuid4())


class HalfDone(Sound):
    """Writes, and then returns a refusal, which keeps what was written."""

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        created = super().create(request, *args, **kwargs)
        return Response({}, status=400) if created.data["qty"] > 100 else created


class Undocumented(Sound):
    def create(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        if str(request.data.get("qty"))[-1:] in {"0", "2", "4", "6", "8"}:
            return Response({}, status=410)
        return super().create(request, *args, **kwargs)


urlpatterns = [
    path("sound/", Sound.as_view()),
    path("answers-500/", Answers500.as_view()),
    path("another-scope/", EachTimeAnotherScope.as_view()),
    path("half-done/", HalfDone.as_view()),
    path("undocumented/", Undocumented.as_view()),
]
