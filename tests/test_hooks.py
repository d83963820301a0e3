"""A hook that returns something else than it promised: an error that names it, and no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from rest_framework import viewsets
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.models import IdempotencyKey
from django_idempotency.placement import HOOKS
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.urls(__name__)

RETURNED: dict[str, Any] = {}  # what a hook returns, by the name of its policy


def told(name: str, usual: Any) -> Any:
    value = RETURNED.get(name, usual)
    return value() if callable(value) else value


def place(name: str = "tea") -> int:
    order = Order.objects.create(sku=name)
    assert order.pk is not None
    return int(order.pk)


class Hooked(IdempotentMixin, viewsets.ViewSet):
    def create(self, request: Any) -> Response:
        return Response({"id": place()}, status=201)

    def get_idempotency_scope(self, request: Any) -> Any:
        return told("scope", "me")

    def get_idempotency_fingerprint(self, request: Any) -> Any:
        return told("fingerprint", b"same")

    def can_replay(self, request: Any, key: Any) -> Any:
        return told("can_replay", True)

    def rebuild_response(self, request: Any, key: Any) -> Any:
        return told("rebuild", None)

    def redact_request(self, data: Any) -> Any:
        return told("redact_request", data)

    def redact_response(self, body: bytes, content_type: str) -> Any:
        return told("redact_response", body)


class Strict(IdempotentMixin, APIView):
    idempotency_anonymous = "reject"

    def post(self, request: Any) -> Response:
        return Response({"id": place()}, status=201)

    def get_idempotency_scope(self, request: Any) -> str:
        return super().get_idempotency_scope(request) + ":shop"


@idempotent(
    scope=lambda request: told("scope", "me"),
    can_replay=lambda request, key: told("can_replay", True),
    rebuild=lambda request, key: told("rebuild", None),
    redact_request=lambda data: told("redact_request", data),
    redact_response=lambda body, content_type: told("redact_response", body),
)
def hooked(request: Any) -> HttpResponse:
    return JsonResponse({"id": place()}, status=201)


@idempotent
def forgetful(request: Any) -> HttpResponse | None:
    place()
    return None


@idempotent
async def aforgetful(request: Any) -> None:
    await Order.objects.acreate(sku="tea")


@idempotent
def unawaited(request: Any) -> Any:
    return aforgetful(request)


@method_decorator(idempotent, name="dispatch")
class Forgetful(View):
    def post(self, request: Any) -> None:
        place()


class ForgetfulAPIView(IdempotentMixin, APIView):
    def post(self, request: Any) -> None:
        place()


api = NinjaAPI(urls_namespace="hooks")


@api.post("/orders/")
@decorate_view(idempotent(scope=lambda request: told("scope", "me")))
def operation(request: Any) -> dict[str, int]:
    return {"id": place()}


for pattern in api.urls[0]:
    transaction.non_atomic_requests(pattern.callback)

urlpatterns = [
    path("mixin/", Hooked.as_view({"post": "create"})),
    path("strict/", Strict.as_view()),
    path("decorator/", hooked),
    path("forgetful/", forgetful),
    path("aforgetful/", aforgetful),
    path("unawaited/", unawaited),
    path("dispatch/", Forgetful.as_view()),
    path("apiview/", ForgetfulAPIView.as_view()),
    path("ninja/", api.urls),
]

BOTH = [("/mixin/", "Hooked.create"), ("/decorator/", "hooked")]
both_ways = pytest.mark.parametrize(("way", "view"), BOTH)


async def coroutine() -> bool:
    return False


@pytest.fixture(autouse=True)
def _loud(send: Any) -> Any:
    send.client.raise_request_exception = True
    yield
    RETURNED.clear()


def failure(send: Any, *arguments: Any, **headers: Any) -> str:
    with pytest.raises(TypeError) as caught:
        send(*arguments, **headers)
    return str(caught.value)


@both_ways
@pytest.mark.parametrize(
    ("value", "said"), [(None, "None"), ("", "an empty string"), (7, "int"), (b"me", "bytes")]
)
def test_a_scope_is_a_non_empty_string(
    send: Any, way: str, view: str, value: Any, said: str
) -> None:
    """Nothing runs, and no key is taken: it would be everyone's."""
    RETURNED["scope"] = value

    text = failure(send, way, key=new_key())

    assert text.startswith(f"{view}: the hook scope (")
    assert text.endswith(f"must return a non-empty string, not {said}.")
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("value", [None, 7, ["a"], coroutine])
def test_a_fingerprint_is_text(send: Any, value: Any) -> None:
    """Nothing runs."""
    RETURNED["fingerprint"] = value

    text = failure(send, "/mixin/", key=new_key())

    assert "Hooked.create: the hook fingerprint (Hooked.get_idempotency_fingerprint)" in text
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@both_ways
@pytest.mark.parametrize("value", ["text", {"id": 1}, 0, coroutine])
def test_a_response_is_redacted_to_bytes_or_to_nothing(
    send: Any, way: str, view: str, value: Any
) -> None:
    """What was written is rolled back, and the key is free for the mended view."""
    RETURNED["redact_response"] = value
    key = new_key()

    text = failure(send, way, key=key)

    assert text.startswith(f"{view}: the hook redact_response (")
    assert "must return bytes, or None to keep no body, not " in text
    assert not Order.objects.exists()
    RETURNED.clear()
    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@both_ways
@pytest.mark.parametrize("value", [None, 1, "yes", coroutine])
def test_a_replay_is_allowed_or_not(send: Any, way: str, view: str, value: Any) -> None:
    """A coroutine is true, and would have shown everyone everything."""
    key = new_key()
    assert send(way, key=key).status_code == 201
    RETURNED["can_replay"] = value

    text = failure(send, way, key=key)

    assert text.startswith(f"{view}: the hook can_replay (")
    assert "must return True or False, not " in text
    assert Order.objects.count() == 1


@both_ways
@pytest.mark.parametrize("value", [{"id": 1}, "text", coroutine])
def test_a_rebuilt_response_is_one(send: Any, way: str, view: str, value: Any) -> None:
    """None stands for the stored one."""
    key = new_key()
    assert send(way, key=key).status_code == 201
    RETURNED["rebuild"] = value

    assert failure(send, way, key=key).startswith(f"{view}: the hook rebuild (")
    RETURNED["rebuild"] = None
    assert send(way, key=key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_a_redacted_request_is_no_coroutine(send: Any, settings: Any) -> None:
    """Its name would have been kept in place of the body."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    RETURNED["redact_request"] = coroutine

    text = failure(send, "/decorator/", key=new_key())

    assert text.startswith("hooked: the hook redact_request (")
    assert not Order.objects.exists()


def test_the_view_of_an_operation_is_named(send: Any) -> None:
    """And not the method of ninja that runs it."""
    RETURNED["scope"] = None

    assert failure(send, "/ninja/orders/", key=new_key()).startswith("operation: the hook scope (")


def test_a_scope_from_the_settings_is_checked_as_well(send: Any, settings: Any) -> None:
    """The message names the function."""
    settings.IDEMPOTENCY = {"SCOPE": "tests.test_hooks.nobody"}

    text = failure(send, "/forgetful/", key=new_key())

    assert text.startswith("forgetful: the hook scope (nobody) must return a non-empty string")
    assert not Order.objects.exists()


def nobody(request: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("way", "view"),
    [
        ("/forgetful/", "forgetful"),
        ("/aforgetful/", "aforgetful"),
        ("/dispatch/", "Forgetful"),
        ("/apiview/", "ForgetfulAPIView"),
    ],
)
def test_a_view_that_returns_nothing_is_named(send: Any, way: str, view: str) -> None:
    """Its order is rolled back."""
    text = failure(send, way, key=new_key())

    assert text.startswith(f"{view}: an idempotent view must return an HttpResponse, not None.")
    assert "return" in text
    assert not Order.objects.exists()


def test_a_view_that_returns_a_coroutine_is_told_so(send: Any) -> None:
    """Something between decorator and async view has hidden what it is."""
    text = failure(send, "/unawaited/", key=new_key())

    assert text.startswith("unawaited: an idempotent view must return an HttpResponse")
    assert "coroutine" in text


async def awaited(*arguments: Any) -> None:
    """No hook."""


WRONG_HOOKS: list[tuple[Callable[..., Any] | Any, str]] = [
    (True, "must be a function, not True"),
    (awaited, "must not be async"),
    (lambda: None, "must be callable with "),
    (lambda one, two, three: None, "must be callable with [a-z]+"),
]


@pytest.mark.parametrize("hook", sorted(HOOKS))
@pytest.mark.parametrize(("value", "said"), WRONG_HOOKS)
def test_a_hook_that_cannot_be_called_fails_where_it_is_written(
    hook: str, value: Any, said: str
) -> None:
    """Not at the first replay, which is long after the first request."""
    name = HOOKS[hook]
    with pytest.raises(TypeError, match=rf"idempotent\({hook}=\.\.\.\) {said}"):
        idempotent(**{hook: value})

    method = staticmethod(value) if callable(value) else value
    with pytest.raises(TypeError, match=rf"Wrong\.{name} {said}"):
        type("Wrong", (IdempotentMixin, APIView), {name: method})


def test_a_method_counts_its_self() -> None:
    """As methods, static methods and class methods do."""
    body: dict[str, Any] = {
        "can_replay": lambda self, request, key: True,
        "redact_response": staticmethod(lambda body, content_type: body),
        "get_idempotency_scope": classmethod(lambda cls, request: "me"),
        "redact_request": lambda self, *args, **kwargs: None,
    }
    assert type("Right", (IdempotentMixin, APIView), body)

    with pytest.raises(
        TypeError, match=r"Wrong\.can_replay must be callable with request and key\."
    ):
        type("Wrong", (IdempotentMixin, APIView), {"can_replay": lambda self, request: True})


def test_the_default_scope_knows_what_its_view_says_of_visitors(send: Any) -> None:
    """``super()`` in a hook does not fall back to the setting."""
    answer = send("/strict/", key=new_key())

    assert answer.json()["code"] == "idempotency_anonymous"
    assert not Order.objects.exists()
