"""What a newcomer gets wrong: never silently, and each error says what to write instead."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, Undone, checks, idempotent
from django_idempotency.exceptions import AnonymousRefused
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key
from tests.test_checks import ids
from tests.test_reach import found

pytestmark = pytest.mark.urls(__name__)


def place(request: Any) -> HttpResponse:
    Order.objects.create(sku="tea")
    return HttpResponse("placed", status=201)


def nameless(view: Any) -> Any:
    """A decorator that forgets functools.wraps."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return inner


class Forgetful(IdempotentMixin, APIView):
    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        self.tenant = 1

    def post(self, request: Any) -> Response:
        place(request)
        return Response()

    def get(self, request: Any) -> Response:
        return Response()


class Hidden(IdempotentMixin, APIView):
    @idempotent(required=True)
    @nameless
    def post(self, request: Any) -> HttpResponse:
        return place(request)


@idempotent
def returns_undone(request: Any) -> Any:
    return Undone(place(request))


@idempotent
def returns_dict(request: Any) -> Any:
    place(request)
    return {"id": 1}


@method_decorator([csrf_exempt, idempotent], name="dispatch")
class AsyncClass(View):
    async def post(self, request: Any) -> HttpResponse:
        order = await Order.objects.acreate(sku="tea")
        return JsonResponse({"id": order.pk}, status=201)


class AsyncHandler(View):
    @method_decorator(idempotent)
    async def post(self, request: Any) -> HttpResponse:
        order = await Order.objects.acreate(sku="tea")
        return JsonResponse({"id": order.pk}, status=201)


class Callable:
    def __call__(self, request: Any, **kwargs: Any) -> Any:
        return place(request) if request.content_type == "application/json" else None

    method = __call__


CALLABLES = {
    "partial": (partial(Callable().method, sku="tea"), "Callable"),
    "instance": (Callable(), "Callable"),
    "bound": (Callable().method, "Callable"),
    "lambda": (lambda request: Callable()(request), "<lambda>"),
    "part": (partial(partial(lambda request, sku: Callable()(request)), sku="tea"), "<lambda>"),
}


@idempotent(redact_response=lambda body, content_type: b"short")
def redacted(request: Any) -> HttpResponse:
    response = place(request)
    response["Content-Length"] = str(len(response.content))
    response["ETag"] = '"1"'
    return response


@idempotent(redact_response=lambda body, content_type: body)
def unredacted(request: Any) -> HttpResponse:
    return redacted.__wrapped__(request)  # type: ignore[attr-defined]


urlpatterns = [
    path("forgetful/", Forgetful.as_view()),
    path("hidden/", Hidden.as_view()),
    path("undone/", returns_undone),
    path("dict/", returns_dict),
    path("async-class/", AsyncClass.as_view()),
    path("async-handler/", AsyncHandler.as_view()),
    path("redacted/", redacted),
    path("unredacted/", unredacted),
    path("plain/", idempotent(place)),
    *(path(f"{name}/", csrf_exempt(idempotent(view))) for name, (view, _) in CALLABLES.items()),
]


ATOMIC_REQUESTS = connection.settings_dict["ATOMIC_REQUESTS"]
async_ways = pytest.mark.parametrize(
    "way",
    [
        "/async-class/",
        pytest.param(
            "/async-handler/",
            marks=pytest.mark.skipif(ATOMIC_REQUESTS, reason="Django refuses, check E010 tells"),
        ),
    ],
)


@pytest.fixture
def loud(send: Any) -> Any:
    send.client.raise_request_exception = True
    return send


# -- views


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
def test_an_initial_without_super_runs_nothing(
    loud: Any, settings: Any, keyed: bool, debug: bool
) -> None:
    """Neither who is there nor the key would have been asked about."""
    settings.DEBUG = debug
    key = new_key() if keyed else None

    with pytest.raises(ImproperlyConfigured, match=r"Forgetful has an initial\(\).*Call it first"):
        loud("/forgetful/", key=key)

    assert not Order.objects.exists()
    assert loud("/forgetful/", method="GET", key=key).status_code == 200


def test_a_method_that_hides_runs_nothing(loud: Any) -> None:
    """What is decorated was not recognised as a method."""
    with pytest.raises(ImproperlyConfigured, match=r"called with Hidden .*functools\.wraps"):
        loud("/hidden/", key=new_key())

    assert not Order.objects.exists()


def test_a_function_that_is_no_view_runs_nothing() -> None:
    """Nor does a method of a class that is none."""

    @idempotent
    def charge(order: Any, amount: int) -> int:
        raise AssertionError

    class Service:
        @idempotent
        def charge(self, amount: int) -> int:
            raise AssertionError

    with pytest.raises(ImproperlyConfigured, match=r"charge was called with Order in place of"):
        charge(Order(), 5)
    with pytest.raises(ImproperlyConfigured, match=r"Service is no view"):
        Service().charge(5)


@pytest.mark.parametrize("kind", sorted(CALLABLES))
def test_whatever_can_be_called_can_be_decorated(loud: Any, kind: str) -> None:
    """Errors have a name for it, too."""
    key = new_key()
    assert [loud(f"/{kind}/", key=key).status_code for _ in range(2)] == [201, 201]
    assert Order.objects.count() == 1

    with pytest.raises(TypeError, match=rf"{CALLABLES[kind][1]}: an idempotent view must return"):
        loud(f"/{kind}/", key=new_key(), content_type="text/plain")


@pytest.mark.parametrize("keyed", [True, False])
def test_undone_is_raised_and_not_returned(loud: Any, keyed: bool) -> None:
    """With a key and without one."""
    with pytest.raises(TypeError, match=r"raise Undone\(response\)"):
        loud("/undone/", key=new_key() if keyed else None)

    assert Order.objects.count() == (not keyed and not ATOMIC_REQUESTS)


def test_a_dict_is_an_answer_of_ninja_only(loud: Any) -> None:
    """Whose operations are decorated in another way."""
    with pytest.raises(TypeError, match=r"not dict\. .*@decorate_view\(idempotent\)"):
        loud("/dict/", key=new_key())

    assert not Order.objects.exists()


def test_an_operation_is_decorated_before_it_is_registered() -> None:
    """Above @api.post nobody would call what the decorator makes."""
    api = NinjaAPI(urls_namespace="misuse")

    with pytest.raises(TypeError, match=r"operation is registered.*@decorate_view\(idempotent\)"):

        @idempotent
        @api.post("/orders/")
        def operation(request: Any) -> None: ...

    @decorate_view(idempotent)
    @api.post("/others/")
    def other(request: Any) -> None: ...


@async_ways
def test_an_async_class_is_protected_by_method_decorator(send: Any, way: str) -> None:
    """Its dispatch() is a function that returns a coroutine."""
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1
    assert [send(way).status_code for _ in range(2)] == [201, 201]
    assert send(way, method="GET").status_code == 405
    assert Order.objects.count() == 3


@async_ways
def test_so_it_is_under_asgi(send: Any, way: str) -> None:
    """On the loop of its server."""
    headers = {"Idempotency-Key": new_key()}

    async def twice() -> list[int]:
        return [(await AsyncClient().post(way, headers=headers)).status_code for _ in range(2)]

    assert async_to_sync(twice)() == [201, 201]
    assert Order.objects.count() == 1


def test_a_redacted_body_is_not_described_by_the_headers_of_the_whole(send: Any) -> None:
    """A length that is too great lets the client wait for the rest."""
    key = new_key()
    assert send("/redacted/", key=key)["Content-Length"] == "6"

    retry = send("/redacted/", key=key)

    assert retry.content == b"short"
    assert retry.headers.get("Content-Length", "5") == "5"
    assert "ETag" not in retry
    key = new_key()
    first, retry = (send("/unredacted/", key=key) for _ in range(2))
    assert (retry["Content-Length"], retry["ETag"]) == (first["Content-Length"], first["ETag"])


def refuse(request: Any) -> str:
    raise AnonymousRefused


def test_a_scope_of_its_own_may_refuse_visitors(send: Any, settings: Any) -> None:
    """As the hint of the check says."""
    settings.IDEMPOTENCY = {"SCOPE": "tests.test_misuse.refuse"}

    assert send("/plain/", key=new_key()).json()["code"] == "idempotency_anonymous"
    assert not Order.objects.exists()


def test_sessions_need_their_middleware(loud: Any, settings: Any) -> None:
    """The message names it."""
    settings.IDEMPOTENCY = {"ANONYMOUS": "session"}
    settings.MIDDLEWARE = []

    with pytest.raises(ImproperlyConfigured, match=r"sessions\.middleware\.SessionMiddleware"):
        loud("/plain/", key=new_key())

    assert not Order.objects.exists()


def test_handlers_under_atomic_requests_are_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E010: the view is not taken out of the transaction, as it is with dispatch()."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    ((number, text),) = found(
        settings, path("a/", AsyncHandler.as_view()), path("b/", AsyncClass.as_view())
    )

    assert number == "E010"
    assert text.startswith("AsyncHandler.post runs inside the transaction of ATOMIC_REQUESTS")


def test_a_time_to_wait_without_waiting_is_warned_about(settings: Any) -> None:
    """W008: in a class, on its action, on a function; silent where somebody waits."""
    wait = timedelta(seconds=3)

    class Waits(IdempotentMixin, APIView):
        idempotency_wait: timedelta | None = wait

        @idempotent(wait=wait)
        def post(self, request: Any) -> HttpResponse:
            return place(request)

    class Patient(Waits):
        idempotency_in_flight = "wait"

    class Impatient(Patient):
        idempotency_wait = None

        @idempotent(wait=wait, in_flight="reject")
        def post(self, request: Any) -> HttpResponse:
            return place(request)

    patterns = [
        path("a/", Waits.as_view()),
        path("b/", Patient.as_view()),
        path("c/", idempotent(wait=wait)(place)),
        path("d/", idempotent(wait=wait, in_flight="wait")(place)),
        path("e/", Impatient.as_view()),
    ]

    said = found(settings, *patterns)

    assert {number for number, _ in said} == {"W008"}
    assert [text.partition(" says")[0] for _, text in said] == [
        "Waits",
        "Waits.post",
        "Impatient.post",
        "place",
    ]
    settings.IDEMPOTENCY = {"IN_FLIGHT": "wait"}
    assert [text.partition(" says")[0] for _, text in found(settings, *patterns)] == [
        "Impatient.post"
    ]


# -- settings


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ({"NEVER_STORE": {201}}, "default"),
        ({"NEVER_STORE": {302, 429}}, "default"),
        ({"KEY_PATTERN": b"[a-f]+"}, "default"),
        ({"KEY_PATTERN": "UUID"}, "Write 'uuid'."),
        ({"DOCS_URL": "https://shop.example/problems"}, "default"),
        ({"RETENTION": timedelta.max}, "default"),
        ({"WAIT": timedelta.max}, "default"),
        ({"SCOPE": "tests.test_hooks.nobody", "ANONYMOUS": "reject"}, "AnonymousRefused"),
        ({"FINGERPRINT": "tests.test_hooks.nobody", "FINGERPRINT_HEADERS": ["X-A"]}, "callable"),
    ],
    ids=str,
)
def test_a_setting_that_would_do_harm_is_an_error(settings: Any, setting: Any, hint: str) -> None:
    """E002: such as a status that announces what has been rolled back."""
    settings.IDEMPOTENCY = setting

    (message,) = checks.check_settings()

    assert ids([message]) == ["E002"]
    assert hint in (message.hint or "")


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("IDEMPOTENCY_RETENTION", 60, 'Write IDEMPOTENCY = {"RETENTION": ...}.'),
        ("DJANGO_IDEMPOTENCY_SCOPE", "user", 'Write IDEMPOTENCY = {"SCOPE": ...}.'),
        ("DJANGO_IDEMPOTENCY", {"REQUIRED": True}, "Rename it to IDEMPOTENCY."),
        ("IDEMPOTENCY_SETTINGS", {"REQUIRED": True}, "Rename it to IDEMPOTENCY."),
    ],
)
def test_a_setting_outside_the_dict_is_an_error(
    settings: Any, name: str, value: Any, hint: str
) -> None:
    """E001: nobody reads it, and its author believes that it is obeyed."""
    setattr(settings, name, value)

    (message,) = checks.check_settings()

    assert ids([message]) == ["E001"]
    assert name in message.msg
    assert message.hint == hint


def test_settings_of_a_project_may_have_such_names(settings: Any) -> None:
    """If they could not be meant for us."""
    settings.IDEMPOTENCY_SERVICE = "https://keys.example/"
    settings.PAYMENTS_IDEMPOTENCY = {"retries": 3}

    assert checks.check_settings() == []


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"scope": lambda request: "a", "anonymous": "reject"}, "anonymous.*beside scope"),
        ({"fingerprint": lambda request: "a", "fingerprint_exclude": ["at"]}, "beside fingerprint"),
    ],
    ids=["scope", "fingerprint"],
)
def test_a_choice_without_effect_fails_where_it_is_written(
    policy: dict[str, Any], said: str
) -> None:
    """Whoever refuses visitors must not be told nothing."""
    with pytest.raises(TypeError, match=said):
        idempotent(**policy)


@pytest.mark.parametrize("sent", ["json", "bytes"])
def test_a_body_that_nobody_can_compare_is_an_error(transactional_db: None, sent: str) -> None:
    """A middleware has read the stream: with another body the answer would be the first one's."""
    reached = []

    @idempotent
    def view(request: Any) -> HttpResponse:
        reached.append(request)
        return HttpResponse(status=201)

    kind = "application/json" if sent == "json" else "application/octet-stream"
    headers = {"Idempotency-Key": new_key()}
    request = RequestFactory().post("/x/", b'{"sku": "tea"}', content_type=kind, headers=headers)
    request.user = AnonymousUser()
    request.read()

    with pytest.raises(ImproperlyConfigured, match=r"Read request\.body there"):
        view(request)

    assert not reached
    assert not IdempotencyKey.objects.exists()
