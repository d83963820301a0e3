"""Checks E009 and E011: what asks for protection and gets none is an error, not a surprise."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from rest_framework import generics, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, checks, idempotent
from tests.orders.models import Order
from tests.orders.views import OrderSerializer
from tests.sender import new_key


def found(settings: Any, *patterns: Any) -> list[tuple[str, str]]:
    """(number, text) of what the checks say of these URLs."""
    urls: Any = ModuleType("tests.reached")
    urls.urlpatterns = list(patterns)
    settings.ROOT_URLCONF = urls
    return [(message.id[-4:], message.msg) for message in checks.check_views()]


def routed(viewset: type) -> Any:
    router = SimpleRouter()
    router.register("orders", viewset)  # type: ignore[arg-type]
    return path("", include(router.urls))


class Orders(IdempotentMixin, viewsets.ModelViewSet):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


def test_a_marked_action_outside_methods_is_an_error(settings: Any) -> None:
    """The method that is missing is named; one that is there does not make up for it."""

    class Marked(Orders):
        @action(detail=True, methods=["put"])
        @idempotent
        def ship(self, request: Any, pk: Any) -> Response:
            return Response()

        @action(detail=True, methods=["post", "delete"])
        @idempotent
        def stop(self, request: Any, pk: Any) -> Response:
            return Response()

        @action(detail=True, methods=["get", "post"])
        @idempotent
        def bill(self, request: Any, pk: Any) -> Response:
            return Response()

        @action(detail=True)
        @idempotent
        def show(self, request: Any, pk: Any) -> Response:
            return Response()

    said = dict(sorted((text, number) for number, text in found(settings, routed(Marked))))

    assert list(said.values()) == ["E011"] * 3
    ship, show, stop = said
    assert ship.startswith("Marked.ship is marked @idempotent, but PUT is not in")
    assert show.startswith("Marked.show is marked @idempotent, but only GET leads there")
    assert stop.startswith("Marked.stop is marked @idempotent, but DELETE is not in")
    settings.IDEMPOTENCY = {"METHODS": ("POST", "PUT", "PATCH", "DELETE")}
    assert [text for _, text in found(settings, routed(Marked))] == [show]


def test_a_listed_action_outside_methods_is_an_error(settings: Any) -> None:
    """Of an update PUT is not protected, although PATCH is."""

    class Listed(Orders):
        idempotency_actions = {"create", "update", "partial_update", "destroy"}

    said = found(settings, routed(Listed))

    assert [number for number, _ in said] == ["E011", "E011"]
    assert "Listed.destroy is named in idempotency_actions, but DELETE" in said[0][1]
    assert "Listed.update is named in idempotency_actions, but PUT" in said[1][1]


@pytest.mark.parametrize("name", ["perform_create", "post", "queryset", "creat"])
def test_only_what_a_request_leads_to_can_be_listed(settings: Any, name: str) -> None:
    """E009: the class may have something of that name all the same."""
    listed = type("Listed", (Orders,), {"idempotency_actions": {name}})

    ((number, text),) = found(settings, routed(listed))

    assert number == "E009"
    assert name in text
    assert "create" in text  # guessed, or among the names that there are


@pytest.mark.parametrize("name", ["perform_create", "dispatch", "get_queryset"])
def test_only_what_a_request_leads_to_can_be_marked(settings: Any, name: str) -> None:
    """E009: the policy of such a method would count nowhere."""
    usual = getattr(Orders, name)
    marked = idempotent(required=True)(lambda self, *args, **kwargs: usual(self, *args, **kwargs))

    ((number, text),) = found(settings, routed(type("Marked", (Orders,), {name: marked})))

    assert number == "E009"
    assert text.startswith(f"@idempotent stands on Marked.{name}, which is no action or handler")


def test_a_handler_may_be_listed_by_its_method(settings: Any) -> None:
    """As the documents say of views without actions."""

    class Listed(IdempotentMixin, generics.ListCreateAPIView):
        queryset = Order.objects.all()
        idempotency_actions = {"post"}

    assert found(settings, path("", Listed.as_view())) == []


def test_a_view_of_which_nothing_is_protected_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the mixin, by the decorator, on Django's views and on ninja's operations."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", False)  # or E010 speaks, too

    class Gone(IdempotentMixin, generics.DestroyAPIView):
        queryset = Order.objects.all()

    @idempotent
    @api_view(["PUT"])
    def put_only(request: Any) -> Response:
        return Response()

    @idempotent
    @api_view(["GET"])
    def get_only(request: Any) -> Response:
        return Response()

    @method_decorator(idempotent, name="dispatch")
    class Whole(View):
        def put(self, request: Any) -> HttpResponse:
            return HttpResponse()

    @method_decorator(idempotent, name="delete")
    class Single(View):
        def post(self, request: Any) -> HttpResponse:
            return HttpResponse()

        def delete(self, request: Any) -> HttpResponse:
            return HttpResponse()

    api = NinjaAPI(urls_namespace="reach")

    @api.put("/orders/")
    @decorate_view(idempotent)
    def ninja_put(request: Any) -> None: ...

    said = found(
        settings,
        path("a/", Gone.as_view()),
        path("b/", put_only),
        path("c/", get_only),
        path("d/", Whole.as_view()),
        path("e/", Single.as_view()),
        path("f/", api.urls),
    )

    assert {number for number, _ in said} == {"E011"}
    heads = sorted(text.partition(", but")[0] for _, text in said)
    assert heads == [
        "Gone has the mixin",
        "Single.delete is decorated",
        "The django-ninja operation ninja_put is decorated",
        "Whole is decorated",
        "get_only is decorated",
        "put_only is decorated",
    ]


def test_a_base_class_may_carry_the_mixin_to_views_that_only_read(settings: Any) -> None:
    """Nothing there is unsafe; nor is it an error that one method of a view is not protected."""

    class Base(IdempotentMixin, APIView):
        pass

    class Reads(Base):
        def get(self, request: Any) -> Response:
            return Response()

    class Deletes(Base):
        def delete(self, request: Any) -> Response:
            return Response()

    assert found(settings, path("a/", Reads.as_view()), path("b/", Deletes.as_view())) == []
    assert found(settings, routed(Orders)) == []


def test_wrong_settings_do_not_stop_the_checks_of_views(settings: Any) -> None:
    """They are reported by E001 and E002; views are measured by the default METHODS."""
    settings.IDEMPOTENCY = {"METHODS": "POST"}

    assert found(settings, routed(Orders)) == []


def test_what_the_check_says_is_so(send: Any, settings: Any) -> None:
    """A PUT that is marked runs each time, until PUT is in METHODS."""

    class Marked(IdempotentMixin, APIView):
        @idempotent(required=True)
        def put(self, request: Any) -> Response:
            Order.objects.create(sku="tea")
            return Response()

    found(settings, path("put/", Marked.as_view()))
    key = new_key()
    for _ in range(2):
        assert "Idempotency-Key" not in send("/put/", method="PUT", key=key)
    assert Order.objects.count() == 2

    settings.IDEMPOTENCY = {"METHODS": ("POST", "PUT")}
    for _ in range(2):
        assert send("/put/", method="PUT", key=key)["Idempotency-Key"] == key
    assert Order.objects.count() == 3
