"""What a view may ask for: names and values are checked where they are written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import path
from rest_framework import viewsets
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, checks, idempotent
from tests.orders.models import Order
from tests.sender import new_key
from tests.test_checks import ids

MISTAKES: list[tuple[str, Any]] = [
    ("required", "yes"),
    ("retention", 60),
    ("retention", timedelta(0)),
    ("scope", "user"),
    ("anonymous", "maybe"),
    ("fingerprint", "body"),
    ("fingerprint_exclude", "client_ts"),
    ("in_flight", "queue"),
    ("wait", 5),
    ("key_field", ""),
    ("can_replay", True),
]


class Headed(IdempotentMixin, APIView):
    """Compares what the default compares, and one header."""

    def get_idempotency_fingerprint(self, request: Any) -> bytes:
        usual = super().get_idempotency_fingerprint(request)
        assert isinstance(usual, bytes)
        return usual + request.headers.get("X-Branch", "").encode()

    def get(self, request: Any) -> Response:
        return Response({"idempotency": request.idempotency})

    def put(self, request: Any) -> Response:
        return Response({"idempotency": request.idempotency})

    def post(self, request: Any) -> Response:
        Order.objects.create(sku=request.data["sku"])
        return Response({"attempt": request.idempotency and request.idempotency.attempt})


class Misspelt(IdempotentMixin, viewsets.ModelViewSet):
    queryset = Order.objects.all()
    idempotency_actions = {"creat", "destroy"}


class Listed(Misspelt):
    idempotency_actions = {"create", "destroy"}


class AllOver:
    """Keys in one database, orders in another."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "django_idempotency" else None


urlpatterns = [
    path("headed/", Headed.as_view()),
    path("misspelt/", Misspelt.as_view({"post": "create"})),
]


@pytest.mark.parametrize(("name", "value"), MISTAKES)
def test_a_policy_that_makes_no_sense_fails_where_it_is_written(name: str, value: Any) -> None:
    """By the decorator and by the mixin's attribute alike, which names its class."""
    with pytest.raises(TypeError, match=name):
        idempotent(**{name: value})
    if hasattr(IdempotentMixin, f"idempotency_{name}"):
        with pytest.raises(TypeError, match=f"Wrong.*{name}"):
            type("Wrong", (IdempotentMixin, APIView), {f"idempotency_{name}": value})


def test_a_misspelt_policy_gets_a_suggestion() -> None:
    """The nearest one there is."""
    with pytest.raises(TypeError, match="Did you mean required"):
        idempotent(requierd=True)
    with pytest.raises(TypeError, match="Did you mean idempotency_required"):
        type("Wrong", (IdempotentMixin, APIView), {"idempotency_requierd": True})


@pytest.mark.urls(__name__)
def test_a_listed_action_that_does_not_exist_is_an_error() -> None:
    """E009: a misspelt name would leave the action unprotected."""
    (message,) = checks.check_views()

    assert ids([message]) == ["E009"]
    assert "Did you mean create?" in message.msg


@pytest.mark.urls("tests.urls")
def test_rows_and_keys_in_two_databases_are_warned_about(settings: Any) -> None:
    """W001: two commits, and a crash may come between them."""
    assert checks.check_views() == []
    settings.DATABASE_ROUTERS = [AllOver()]

    assert set(ids(checks.check_views())) == {"W001"}


@pytest.mark.urls(__name__)
def test_a_fingerprint_may_add_to_the_default(send: Any) -> None:
    """``super()`` compares the request; what is added is compared, too."""
    key = new_key()

    assert send("/headed/", key=key, X_Branch="a").status_code == 200
    assert send("/headed/", key=key, X_Branch="a")["Idempotent-Replayed"] == "true"
    assert send("/headed/", key=key, X_Branch="b").status_code == 422
    assert send("/headed/", {"sku": "oil"}, key=key, X_Branch="a").status_code == 422
    assert Order.objects.count() == 1


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_request_idempotency_is_none_where_no_key_counts(send: Any, method: str) -> None:
    """On a method that is not protected, key or no key."""
    assert send("/headed/", method=method, key=new_key()).json() == {"idempotency": None}
    assert send("/headed/", method=method).json() == {"idempotency": None}
    assert send("/headed/").json() == {"attempt": None}
