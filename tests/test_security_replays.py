"""Security rows S3, S11, S17, S18: who may still read, what goes with a user, what is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.http import HttpResponse
from django.urls import include, path
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.throttling import UserRateThrottle

from django_idempotency.models import IdempotencyKey
from tests.conformance.views_more import user_and_token
from tests.orders.models import Order
from tests.orders.views import OrderAPIView, OrderViewSet
from tests.sender import new_key


class MayAdd(DjangoModelPermissions):
    """REST framework's own: whoever posts needs ``orders.add_order``."""


class Permitted(OrderAPIView):
    permission_classes = [MayAdd]
    queryset = Order.objects.all()


class OwnObjects(OrderViewSet):
    """What a key stands for may be read as long as its order is there."""

    def can_replay(self, request: Any, key: Any) -> bool:
        return Order.objects.exists()


class OnceAMinute(UserRateThrottle):
    rate = "1/min"


class Throttled(OrderAPIView):
    throttle_classes = [OnceAMinute]


urlpatterns = [
    path("permitted/", Permitted.as_view()),
    path("objects/", OwnObjects.as_view({"post": "create"})),
    path("throttled/", Throttled.as_view()),
    path("", include("tests.urls")),
]
pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("nobody_is_throttled")]


def test_s3_a_revoked_permission_ends_the_replays(send: Any) -> None:
    """S3: 403 and nothing of the stored body; given back, it is the replay again."""
    user, token = user_and_token("alice")
    permission = Permission.objects.get(codename="add_order")
    user.user_permissions.add(permission)
    key = new_key()
    first = send("/permitted/", key=key, Authorization=token)
    assert first.status_code == 201
    user.user_permissions.remove(permission)

    revoked = send("/permitted/", key=key, Authorization=token)

    assert revoked.status_code == 403
    assert b"sku" not in revoked.content
    assert "Idempotent-Replayed" not in revoked
    user.user_permissions.add(permission)
    assert send("/permitted/", key=key, Authorization=token).content == first.content
    assert Order.objects.count() == 1


def test_s3_can_replay_speaks_for_objects(send: Any) -> None:
    """S3: what the view would check while it runs is asked before a replay, and never runs it."""
    key = new_key()
    assert send("/objects/", key=key).status_code == 201
    assert send("/objects/", key=key)["Idempotent-Replayed"] == "true"
    Order.objects.all().delete()

    refused = send("/objects/", key=key)

    assert (refused.status_code, refused.json()["code"]) == (403, "idempotency_replay_forbidden")
    assert b"sku" not in refused.content
    assert not Order.objects.exists()


def test_s11_what_a_user_stored_goes_with_the_user(send: Any) -> None:
    """S11: the finished keys of a deleted user and their trail; those of others stay."""
    (alice, hers), (_, his) = user_and_token("alice"), user_and_token("bob")
    for token in (hers, his):
        key = new_key()
        for _ in range(2):
            send("/apiview/", key=key, Authorization=token)

    alice.delete()

    (left,) = IdempotencyKey.objects.all()
    assert left.scope != f"user:{alice.pk}"
    assert left.replay_count == 1


def test_s17_what_is_throttled_claims_no_key(send: Any) -> None:
    """S17: REST framework's throttles run first, so they bound the table, too."""
    _, token = user_and_token("alice")

    statuses = [
        send("/throttled/", key=new_key(), Authorization=token).status_code for _ in range(3)
    ]

    assert statuses == [201, 429, 429]
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
@pytest.mark.parametrize("over", [0, 1])
def test_s18_a_response_over_the_limit_is_not_kept_and_not_run_again(
    send: Any, after: Any, settings: Any, way: str, over: int
) -> None:
    """S18: by one byte: final all the same, and its repeat is told so."""
    settings.IDEMPOTENCY = {"MAX_RESPONSE_BYTES": 100 - over}
    after(lambda request, order: HttpResponse(b"x" * 100, status=201))
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, first.content) == (201, b"x" * 100)
    assert retry.status_code == (409 if over else 201)
    assert not over or retry.json()["code"] == "idempotency_result_not_stored"
    assert bytes(IdempotencyKey.objects.get().response_body or b"") == b"x" * (0 if over else 100)
    assert Order.objects.count() == 1
