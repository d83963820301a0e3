"""adrf: its async APIView, viewset, action and ``@api_view`` under the same engine."""

from __future__ import annotations

from typing import Any

import pytest
from adrf.decorators import api_view
from adrf.views import APIView
from adrf.viewsets import ModelViewSet
from django.db import connections
from django.urls import include, path
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.response import Response

from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.models import IdempotencyKey
from tests.conformance.views_more import Gate
from tests.orders import views
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.urls(__name__)


class Allowed(BasePermission):
    granted = True

    def has_permission(self, request: Any, view: Any) -> bool:
        return self.granted


async def place(request: Any) -> Response:
    order = await Order.objects.acreate(sku=request.data["sku"], qty=request.data["qty"])
    behave = views.BEHAVIOUR.get("after")
    response = behave(request, order) if behave else None
    return response or Response(views.described(order), status=201)


class AsyncView(IdempotentMixin, APIView):
    permission_classes = [Allowed]

    async def post(self, request: Any) -> Response:
        return await place(request)


class AsyncOrders(IdempotentMixin, ModelViewSet):
    permission_classes = [Allowed]
    queryset = Order.objects.all()
    serializer_class = views.OrderSerializer

    async def perform_acreate(self, serializer: Any) -> None:
        order = await Order.objects.acreate(**serializer.validated_data)
        serializer.instance = order
        if behave := views.BEHAVIOUR.get("after"):
            behave(self.request, order)

    @action(detail=False, methods=["post"])
    @idempotent(required=True)
    async def reorder(self, request: Any) -> Response:
        return await place(request)


@idempotent
@api_view(["POST"])
async def async_function(request: Any) -> Response:
    return await place(request)


async_function.cls.permission_classes = [Allowed]  # type: ignore[attr-defined]

urlpatterns = [
    path("view/", AsyncView.as_view()),
    path("function/", async_function),
    path("set/", AsyncOrders.as_view({"post": "acreate"})),
    path("set/reorder/", AsyncOrders.as_view({"post": "reorder"})),
    path("", include("tests.urls")),
]
every_way = pytest.mark.parametrize("way", ["/view/", "/function/", "/set/", "/set/reorder/"])


def raising(error: Exception) -> Any:
    def behave(request: Any, order: Order) -> None:
        raise error

    return behave


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def _transactions(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)


@pytest.mark.usefixtures("_transactions")
@every_way
def test_an_adrf_view_runs_once_and_replays(send: Any, way: str) -> None:
    """adrf: one row, the same bytes, 422 for another body."""
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert first.status_code == 201, first.content
    assert (retry.status_code, retry.content, is_replay(retry)) == (201, first.content, True)
    assert send(way, {"sku": "tea", "qty": 2}, key=key).status_code == 422
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize(
    ("error", "status"), [(ValidationError({"qty": "no"}), 400), (RuntimeError(), 500)]
)
def test_what_an_adrf_view_raises_never_happened(
    send: Any, after: Any, way: str, error: Exception, status: int
) -> None:
    """adrf: atomic() is sync-only, and the view's writes are undone all the same."""
    key = new_key()
    after(raising(error))

    assert send(way, key=key).status_code == status
    assert not Order.objects.exists()
    after(lambda request, order: None)

    retry = send(way, key=key)
    assert (retry.status_code, is_replay(retry)) == (201, False)
    assert Order.objects.count() == 1


@every_way
def test_an_adrf_replay_is_permitted_first(
    send: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """adrf, P6: a permission that was lost since: 403, nothing of the stored body."""
    key = new_key()
    assert send(way, key=key).status_code == 201
    monkeypatch.setattr(Allowed, "granted", False)

    refused = send(way, key=key)

    assert refused.status_code in {401, 403}
    assert not is_replay(refused)
    assert b"sku" not in refused.content
    assert IdempotencyKey.objects.get().replay_count == 0


@pytest.mark.row_locks
@every_way
def test_an_adrf_twin_in_flight_is_refused(send: Any, after: Any, way: str) -> None:
    """adrf, C1: 409 while the first is in its view."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        assert send(way, key=key).status_code == 409
        assert first.answer().status_code == 201

    assert is_replay(send(way, key=key))
    assert Order.objects.count() == 1


def test_an_adrf_action_may_require_a_key(send: Any) -> None:
    """adrf: the policy of ``@idempotent`` on an async action."""
    assert send("/set/reorder/").status_code == 400
    assert not Order.objects.exists()


@pytest.mark.parametrize("way", ["/view/", "/function/", "/set/"])
def test_an_adrf_view_runs_freely_without_a_key(send: Any, way: str) -> None:
    """adrf: two requests, two rows, no marker."""
    answers = [send(way) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not any("Idempotency-Key" in answer for answer in answers)
    assert Order.objects.count() == 2


@pytest.mark.parametrize("way", ["/view/", "/function/", "/set/"])
@pytest.mark.parametrize("error", [ValidationError({"qty": "no"}), RuntimeError()])
def test_atomic_requests_hold_for_what_an_adrf_view_runs_without_a_key(
    send: Any, after: Any, monkeypatch: pytest.MonkeyPatch, way: str, error: Exception
) -> None:
    """The mixin takes the view out of ATOMIC_REQUESTS, so it owes it a transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    after(raising(error))
    assert send(way).status_code in {400, 500}
    assert not Order.objects.exists()
    after(lambda request, order: None)

    assert send(way).status_code == 201
    assert Order.objects.count() == 1
