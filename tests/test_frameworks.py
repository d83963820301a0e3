"""adrf and django-ninja: views of other frameworks behind the same engine."""

from __future__ import annotations

from typing import Any

import pytest
from adrf.views import APIView as AsyncAPIView
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.http import HttpRequest
from django.urls import path
from ninja import NinjaAPI, Schema
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.security import HttpBearer
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from django_idempotency import IdempotentMixin, checks, idempotent
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key
from tests.test_checks import ids

pytestmark = pytest.mark.urls(__name__)


class AsyncOrders(IdempotentMixin, AsyncAPIView):
    async def post(self, request: Any) -> Response:
        order = await Order.objects.acreate(sku=request.data["sku"], qty=request.data["qty"])
        if order.qty > 5:
            raise ValidationError({"qty": "too many"})
        return Response({"id": order.pk}, status=201)


class OrderIn(Schema):
    sku: str
    qty: int


class OrderOut(Schema):
    id: int


class Bearer(HttpBearer):
    """It says who is there in request.auth, and leaves request.user alone."""

    allowed = {"good", "better"}

    def authenticate(self, request: HttpRequest, token: str) -> str | None:
        return token if token in self.allowed else None


def token_of(request: HttpRequest) -> str:
    return f"token {request.auth}"  # type: ignore[attr-defined]


mine = idempotent(scope=token_of)
api = NinjaAPI(auth=Bearer())


@api.post("/orders/", response={201: OrderOut})
@decorate_view(mine)
def ninja_order(request: HttpRequest, data: OrderIn) -> dict[str, int]:
    order = Order.objects.create(sku=data.sku, qty=data.qty)
    if data.qty > 5:
        raise HttpError(400, "too many")
    return {"id": order.pk}


@api.post("/async-orders/", response={201: OrderOut})
@decorate_view(mine)
async def async_ninja_order(request: HttpRequest, data: OrderIn) -> dict[str, int]:
    order = await Order.objects.acreate(sku=data.sku, qty=data.qty)
    if data.qty > 5:
        raise HttpError(400, "too many")
    return {"id": order.pk}


@api.post("/unsaid/", response={201: OrderOut})
@decorate_view(idempotent)
def unsaid(request: HttpRequest, data: OrderIn) -> dict[str, int]:
    return {"id": Order.objects.create(sku=data.sku).pk}


class AsUser(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return get_user_model().objects.get(username=token)


@api.post("/of-users/", response={201: OrderOut}, auth=AsUser())
@decorate_view(idempotent)
def of_users(request: HttpRequest, data: OrderIn) -> dict[str, int]:
    return {"id": Order.objects.create(sku=data.sku).pk}


# As the documents say for ATOMIC_REQUESTS.
ninja_urls = api.urls
for pattern in ninja_urls[0]:
    transaction.non_atomic_requests(pattern.callback)

urlpatterns = [path("adrf/", AsyncOrders.as_view()), path("ninja/", ninja_urls)]
NINJA = ["/ninja/orders/", "/ninja/async-orders/"]
WAYS = ["/adrf/", *NINJA]


@pytest.mark.parametrize("way", WAYS)
def test_it_runs_once_and_replays(send: Any, way: str) -> None:
    """One row, one body, the marker on the retry."""
    key = new_key()

    first, retry = (send(way, key=key, Authorization="Bearer good") for _ in range(2))

    assert first.status_code == 201, first.content
    assert (retry.status_code, retry.content) == (201, first.content)
    assert retry["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_it_raises_never_happened(send: Any, way: str) -> None:
    """A raised 400 is rolled back, and a corrected body runs under the same key."""
    key = new_key()

    refused = send(way, {"sku": "tea", "qty": 9}, key=key, Authorization="Bearer good")
    assert refused.status_code == 400
    assert not Order.objects.exists()

    assert send(way, key=key, Authorization="Bearer good").status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", NINJA)
def test_a_ninja_replay_is_authenticated_first(send: Any, monkeypatch: Any, way: str) -> None:
    """A revoked token gets 401, not the stored response."""
    key = new_key()
    assert send(way, key=key, Authorization="Bearer good").status_code == 201
    monkeypatch.setattr(Bearer, "allowed", set())

    assert send(way, key=key, Authorization="Bearer good").status_code == 401


@pytest.mark.parametrize("way", NINJA)
def test_p3_clients_of_ninja_do_not_share_keys(send: Any, way: str) -> None:
    """The same key sent with another token is another key."""
    key = new_key()

    answers = [send(way, key=key, Authorization=f"Bearer {it}") for it in ("good", "better")]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not any("Idempotent-Replayed" in answer for answer in answers)
    assert Order.objects.count() == 2


def test_who_is_there_without_a_user_must_be_said(send: Any) -> None:
    """Or all who have no user would share their keys; nothing runs, the error says what to do."""
    send.client.raise_request_exception = True

    with pytest.raises(ImproperlyConfigured, match=r"scope=\.\.\. of @idempotent"):
        send("/ninja/unsaid/", key=new_key(), Authorization="Bearer good")

    assert not Order.objects.exists()
    assert send("/ninja/unsaid/", Authorization="Bearer good").status_code == 201


def test_a_user_in_request_auth_is_whose_key_it_is(send: Any) -> None:
    """As django-ninja documents authenticators: they return the user."""
    users = [get_user_model().objects.create_user(name) for name in ("one", "two")]
    key = new_key()

    for user in users:
        answer = send("/ninja/of-users/", key=key, Authorization=f"Bearer {user.username}")
        assert answer.status_code == 201

    scopes = set(IdempotencyKey.objects.values_list("scope", flat=True))
    assert scopes == {f"user:{user.pk}" for user in users}


def test_ninja_under_atomic_requests_is_an_error(monkeypatch: Any) -> None:
    """E010, unless its views were taken out: the engine would refuse each request."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert checks.check_views() == []

    for pattern in ninja_urls[0]:
        monkeypatch.delattr(pattern.callback, "_non_atomic_requests")

    assert ids(checks.check_views()) == ["E010"] * 4  # protected operations
