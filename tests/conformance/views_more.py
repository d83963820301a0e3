"""Views for rows that the common ones cannot show, and the helpers of their tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.urls import include, path
from rest_framework.authtoken.models import Token
from rest_framework.decorators import api_view
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import AcceptHeaderVersioning
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from tests.orders.models import Order
from tests.orders.views import drf_answer, plain_answer
from tests.sender import Sender

SWITCH: dict[str, bool] = {}  # what a test takes away: "permission", "throttle", "object"


class Switched(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return SWITCH.get("permission", True)


class Throttle(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return SWITCH.get("throttle", True)

    def wait(self) -> float:
        return 7.0


class Orders(IdempotentMixin, APIView):
    def post(self, request: Any) -> Any:
        return drf_answer(request)


class Guarded(Orders):
    permission_classes = [IsAuthenticated, Switched]
    throttle_classes = [Throttle]


class ObjectGuarded(Orders):
    permission_classes = [IsAuthenticated]

    def can_replay(self, request: Any, key: Any) -> bool:
        return SWITCH.get("object", True)


class XMLRenderer(BaseRenderer):
    media_type = "application/xml"
    format = "xml"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return f"<order>{data.get('id')}</order>".encode()


class TwoForms(Orders):
    renderer_classes = [JSONRenderer, XMLRenderer]


class HTMLOnly(Orders):
    renderer_classes = [BrowsableAPIRenderer]


class Versioned(Orders):
    versioning_class = AcceptHeaderVersioning
    default_version = "1"
    allowed_versions = ["1", "2"]


class Rebuilding(Orders):
    def rebuild_response(self, request: Any, key: Any) -> Response:
        return Response({"orders": Order.objects.count()}, status=200)


@idempotent
@api_view(["POST"])
def guarded_function(request: Any) -> Any:
    return drf_answer(request)


guarded_function.cls.permission_classes = [IsAuthenticated, Switched]  # type: ignore[attr-defined]
guarded_function.cls.throttle_classes = [Throttle]  # type: ignore[attr-defined]


@idempotent
def template(request: Any) -> HttpResponse:
    order = Order.objects.create(sku="tea")
    text = engines["django"].from_string("order {{ pk }}")
    return SimpleTemplateResponse(text, {"pk": order.pk}, status=201)


@idempotent(key_field="once")
def form(request: Any) -> HttpResponse:
    return plain_answer(request)


class Undecided(Orders):
    permission_classes = [AllowAny]


urlpatterns = [
    path("guarded/", Guarded.as_view()),
    path("guarded-function/", guarded_function),
    path("object/", ObjectGuarded.as_view()),
    path("two-forms/", TwoForms.as_view()),
    path("html-only/", HTMLOnly.as_view()),
    path("versioned/", Versioned.as_view()),
    path("v1/orders/", Undecided.as_view()),
    path("v2/orders/", Undecided.as_view()),
    path("rebuilding/", Rebuilding.as_view()),
    path("template/", template),
    path("form/", form),
    path("", include("tests.urls")),
]


# -- helpers


def user_and_token(name: str, **fields: Any) -> tuple[User, str]:
    """A user, and the Authorization header that speaks for her."""
    user = get_user_model().objects.create_user(name, **fields)
    return user, f"Token {Token.objects.create(user=user).key}"


class Background:
    """A request in a thread with connections of its own."""

    def __init__(self, path: str, body: Any = None, **options: Any) -> None:
        self._answer: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(path, body), kwargs=options)
        self._thread.start()

    def _run(
        self, path: str, body: Any, before: Callable[[], Any] | None = None, **kw: Any
    ) -> None:
        try:
            if before:
                before()
            self._answer.append(Sender()(path, body, **kw))
        finally:
            connections.close_all()

    def answer(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the request hangs"
        return self._answer[0]


class Gate:
    """Holds the first request inside its view until it is opened."""

    def __init__(self, failure: type[Exception] | None = None) -> None:
        self.entered, self._opened = threading.Event(), threading.Event()
        self._failure = failure
        self._first = threading.Lock()

    def __call__(self, request: Any, order: Any) -> None:
        if not self._first.acquire(blocking=False):
            return
        self.entered.set()
        assert self._opened.wait(20), "nobody opened the gate"
        if self._failure:
            raise self._failure

    def open(self) -> None:
        self._opened.set()

    def hold(self, path: str, body: Any = None, **options: Any) -> Held:
        request = Background(path, body, **options)
        assert self.entered.wait(10), "the request did not reach its view"
        return Held(self, request)


class Held:
    """A request that stands in its view; let go at the end of the block at the latest."""

    def __init__(self, gate: Gate, request: Background) -> None:
        self.gate, self.request = gate, request

    def answer(self) -> Any:
        self.gate.open()
        return self.request.answer()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as stack:
            stack.callback(self.request.answer)
            self.gate.open()
