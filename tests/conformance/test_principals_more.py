"""Rows P10 and P11 of the specification: who is one principal, and who is not any more."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.urls import include, path
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import IsAuthenticated

from django_idempotency import idempotent
from django_idempotency.models import IdempotencyKey
from django_idempotency.scope import default_scope
from tests.conformance.views_more import user_and_token
from tests.orders.models import Order, Person
from tests.orders.views import OrderAPIView, plain_answer
from tests.sender import Sender, new_key

pytestmark = pytest.mark.urls(__name__)


class ApiKeyAuthentication(BaseAuthentication):
    """``X-Api-Key: account/key``: each key is a user of its own, an account has several."""

    def authenticate(self, request: Any) -> Any:
        account, _, name = request.headers["X-Api-Key"].partition("/")
        user, _ = get_user_model().objects.get_or_create(username=f"{account}-{name}")
        return user, {"account": account}


class ActingAs(SessionAuthentication):
    """Support staff see what a customer sees: ``X-Act-As`` names her."""

    def authenticate(self, request: Any) -> Any:
        staff, _ = super().authenticate(request) or (None, None)
        if staff is None or "X-Act-As" not in request.headers:
            return staff and (staff, None)
        return get_user_model().objects.get(username=request.headers["X-Act-As"]), staff


class PerKey(OrderAPIView):
    authentication_classes = [ApiKeyAuthentication]


class PerAccount(PerKey):
    def get_idempotency_scope(self, request: Any) -> str:
        return f"account:{request.auth['account']}"


class Impersonated(OrderAPIView):
    authentication_classes = [ActingAs]
    permission_classes = [IsAuthenticated]


class Supervised(Impersonated):
    def get_idempotency_scope(self, request: Any) -> str:
        actor = request.auth or request.user
        return f"{default_scope(request)} by {actor.pk}"


@idempotent(scope=lambda request: f"site:{request.headers['X-Site']} {default_scope(request)}")
def per_site(request: Any) -> Any:
    return plain_answer(request)


urlpatterns = [
    path("per-key/", PerKey.as_view()),
    path("per-account/", PerAccount.as_view()),
    path("impersonated/", Impersonated.as_view()),
    path("supervised/", Supervised.as_view()),
    path("per-site/", per_site),
    path("", include("tests.urls")),
]


def is_replay(response: Any) -> bool:
    assert response.status_code == 201, response.content
    return bool(response.get("Idempotent-Replayed") == "true")


@pytest.mark.parametrize(("way", "shared"), [("/per-key/", False), ("/per-account/", True)])
def test_p10_several_api_keys_of_one_account(send: Any, way: str, shared: bool) -> None:
    """P10: apart by default, together where the scope says so; other accounts always apart."""
    key = new_key()
    first = send(way, key=key, X_Api_Key="acme/one")

    same, colleague, stranger = (
        send(way, key=key, X_Api_Key=name) for name in ("acme/one", "acme/two", "other/one")
    )

    assert not is_replay(first)
    assert is_replay(same)
    assert is_replay(colleague) is shared
    assert not is_replay(stranger)
    assert (colleague.content == first.content) is shared
    assert Order.objects.count() == (2 if shared else 3)


def test_p10_one_account_has_one_meaning_of_a_key(send: Any) -> None:
    """P10: another body under the key of a colleague is a conflict, as it would be one's own."""
    key = new_key()
    send("/per-account/", key=key, X_Api_Key="acme/one")

    other = send("/per-account/", {"sku": "tea", "qty": 2}, key=key, X_Api_Key="acme/two")

    assert other.status_code == 422
    assert Order.objects.count() == 1


def signed_in(user: User) -> Sender:
    sender = Sender()
    sender.client.force_login(user)
    return sender


@pytest.mark.parametrize(("way", "shared"), [("/impersonated/", True), ("/supervised/", False)])
def test_p10_impersonation(send: Any, way: str, shared: bool) -> None:
    """P10: who acts as a customer is her, so her retry replays; a scope can keep them apart."""
    alice, staff = (get_user_model().objects.create_user(name) for name in ("alice", "staff"))
    key = new_key()
    hers = signed_in(alice)(way, key=key)
    support = signed_in(staff)

    acting = support(way, key=key, X_Act_As="alice")
    own = support(way, key=key)

    assert not is_replay(hers)
    assert is_replay(acting) is shared
    assert not is_replay(own)  # staff acting for themselves are never the customer
    assert is_replay(signed_in(alice)(way, key=key))
    assert Order.objects.count() == (2 if shared else 3)


@pytest.mark.parametrize("way", ["/plain/", "/class/", "/async/"])
def test_p10_one_user_in_two_sessions_is_one_principal(send: Any, way: str) -> None:
    """P10: a second device, and a session renewed between the attempts."""
    alice = get_user_model().objects.create_user("alice")
    phone, key = signed_in(alice), new_key()
    phone(way, key=key)

    assert is_replay(signed_in(alice)(way, key=key))
    phone.client.logout()
    phone.client.force_login(alice)
    assert is_replay(phone(way, key=key))
    assert Order.objects.count() == 1


def test_p10_a_decorated_view_may_have_a_scope_of_its_own(send: Any) -> None:
    """P10: ``@idempotent(scope=…)`` on a Django view."""
    key = new_key()

    send("/per-site/", key=key, X_Site="one")

    assert is_replay(send("/per-site/", key=key, X_Site="one"))
    assert not is_replay(send("/per-site/", key=key, X_Site="two"))
    assert Order.objects.count() == 2


def test_p9_a_session_scope_outlives_no_logout(send: Any, settings: Any) -> None:
    """P9: ANONYMOUS="session": the session's key is hashed, and a new session is a stranger."""
    settings.IDEMPOTENCY = {"ANONYMOUS": "session"}
    client, key = Client(), new_key()
    visitor = Sender()
    visitor.client = client
    visitor("/plain/", key=key)
    session = client.session.session_key
    assert session is not None
    assert session not in IdempotencyKey.objects.get().scope
    assert is_replay(visitor("/plain/", key=key))

    SessionStore(session).delete()

    assert not is_replay(visitor("/plain/", key=key))
    assert Order.objects.count() == 2


# -- P11


def replays_to_a_new_user(way: str, delete: Any) -> bool:
    """Whether user 77 sees what a deleted user 77 was answered."""
    key = new_key()
    old, token = user_and_token("alice", pk=77)
    first = Sender()(way, key=key, Authorization=token)
    assert not is_replay(first)
    delete(old)
    assert not get_user_model().objects.filter(pk=77).exists()
    _, token = user_and_token("mallory", pk=77)
    return is_replay(Sender()(way, key=key, Authorization=token))


def test_p11_a_user_deleted_as_a_proxy_leaves_nothing(send: Any) -> None:
    """P11: deleted through a proxy model, as an admin of its own does it."""
    assert not replays_to_a_new_user("/apiview/", lambda user: Person.objects.get(pk=77).delete())


def test_p11_route_scopes_of_a_deleted_user_are_forgotten(send: Any, settings: Any) -> None:
    """P11: ``SCOPE="user+route"``: the scope names the user and more."""
    settings.IDEMPOTENCY = {"SCOPE": "user+route"}

    assert not replays_to_a_new_user("/apiview/", lambda user: user.delete())
