"""What a view may ask for: names and values are checked where they are written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework import viewsets
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, checks, idempotent
from tests.orders.models import Order
from tests.sender import new_key
from tests.test_checks import ids
from tests.test_reach import found

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


class DjangoView(View):
    pass


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
    """By the decorator and by the mixin's attribute alike, each by the name it was written with."""
    with pytest.raises(TypeError, match=rf"^idempotent\({name}=\.\.\.\) must "):
        idempotent(**{name: value})
    if hasattr(IdempotentMixin, f"idempotency_{name}"):
        with pytest.raises(TypeError, match=rf"^Wrong\.idempotency_{name} must .*, not "):
            type("Wrong", (IdempotentMixin, APIView), {f"idempotency_{name}": value})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"idempotency_actions": "post"}, r"not 'post'\. Write \['post'\]\."),
        ({"idempotency_actions": True}, "must be a list, tuple or set of strings, not True"),
        ({"idempotency_fingerprint_exclude": "at"}, r"Write \['at'\]\."),
        ({"idempotency_retention": 60}, r"Write timedelta\(seconds=60\)\."),
        ({"idempotency_policy": {"required": True}}, "such as idempotency_required"),
        ({"idempotency_scope": "user"}, r"It is a method: get_idempotency_scope\(\)"),
        ({"idempotency_can_replay": True}, r"It is a method: can_replay\(\)"),
        ({"get_idempotency_scop": print}, "Did you mean get_idempotency_scope"),
        ({"get_idempotency_fingerprints": print}, "mean get_idempotency_fingerprint"),
    ],
    ids=str,
)
def test_an_error_in_a_class_says_what_to_write(body: dict[str, Any], said: str) -> None:
    """A str is a collection of letters, so "post" would have named nothing."""
    (name,) = body
    with pytest.raises(TypeError, match=rf"^Wrong\.{name}.*{said}"):
        type("Wrong", (IdempotentMixin, APIView), body)


def test_a_choice_that_nothing_resembles_gets_the_list() -> None:
    """Whoever looks for the methods finds that they are a setting."""
    with pytest.raises(TypeError, match="It has required, retention, scope"):
        idempotent(ttl=60)


def test_protection_is_given_once() -> None:
    """By mixin and decorator, or by two decorators, it would be unclear whose policy counts."""

    def function(request: Any) -> HttpResponse:
        return HttpResponse()

    def method(self: Any, request: Any) -> HttpResponse:
        return HttpResponse()

    once = idempotent(api_view(["POST"])(function))
    for view, said in [
        (Headed.as_view(), "Headed is protected already.*attributes of the class"),
        (idempotent(function), "function is protected already.*takes all arguments"),
        (idempotent(method), "method is protected already"),
        (once, "function is protected already.*takes all arguments"),
        (login_required(idempotent(function)), "function is protected already"),
        (method_decorator(idempotent, name="dispatch")(DjangoView).as_view(), "protected already"),
    ]:
        with pytest.raises(TypeError, match=said):
            idempotent(view)


@pytest.mark.parametrize("argument", [True, "required", timedelta(days=1)])
def test_arguments_of_the_decorator_have_names(argument: Any) -> None:
    """The only one without is the view."""
    with pytest.raises(TypeError, match=r"decorates views, not .*have names"):
        idempotent(argument)


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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("can_repaly", "can_replay"),
        ("can_repla", "can_replay"),
        ("redact_reponse", "redact_response"),
        ("redact_responses", "redact_response"),
        ("redact_responce", "redact_response"),
        ("rebuild_repsonse", "rebuild_response"),
        ("idempotent_required", "idempotency_required"),
        ("get_idempotent_scope", "get_idempotency_scope"),
        ("redact_reqeust", "redact_request"),
    ],
)
def test_a_slip_in_the_name_of_a_hook_is_warned_about(settings: Any, name: str, meant: str) -> None:
    """W007: a permission that is never asked grants everything."""
    view = type("Slipped", (Headed,), {name: lambda self, *args: True})

    ((number, text),) = found(settings, path("slipped/", view.as_view()))

    assert number == "W007"
    assert f"Slipped.{name} " in text
    assert f"Did you mean {meant}?" in text


def test_names_that_are_no_slips_are_left_alone(settings: Any) -> None:
    """A view may have methods of its own."""
    own = ["can_pay", "build_response", "render_response", "redact", "idempotent_refund", "replay"]
    view = type("Own", (Headed,), dict.fromkeys(own, print))

    assert found(settings, path("own/", view.as_view())) == []


@pytest.mark.parametrize("name", ["idempotency_required", "get_idempotency_scope"])
@pytest.mark.parametrize("base", [APIView, View])
def test_attributes_without_the_mixin_are_an_error(settings: Any, base: Any, name: str) -> None:
    """E007: whoever wrote them believes that the view is protected."""
    view = type("Forgotten", (base,), {name: True})

    ((number, text),) = found(settings, path("forgotten/", view.as_view()))

    assert number == "E007"
    assert text.startswith(f"Forgotten.{name} is set, and nothing acts on that: Forgotten ")


@pytest.mark.parametrize("base", [APIView, View])
def test_a_view_without_the_mixin_may_have_names_of_its_own(settings: Any, base: Any) -> None:
    """Such as those of a solution that was there before."""
    own = {"idempotency_key_header": "X-Key", "get_idempotency_key": print}
    view = type("Older", (base,), own)

    assert found(settings, path("older/", view.as_view())) == []


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
