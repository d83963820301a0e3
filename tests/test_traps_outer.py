"""Traps around the view: middleware outside it, decorators on it, TestCase around all of it."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import include, path
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.models import IdempotencyKey
from tests.orders import views
from tests.orders.models import Order
from tests.sender import Sender, new_key

pytestmark = pytest.mark.urls(__name__)
every_kind = pytest.mark.parametrize("way", ["/apiview/", "/function/", "/plain/", "/async/"])


class Marked(IdempotentMixin, APIView):
    @idempotent(required=True)
    def post(self, request: Any) -> Response:
        return views.drf_answer(request)  # type: ignore[no-any-return]


@idempotent
def template(request: Any) -> HttpResponse:
    order = Order.objects.create(sku="tea")
    response = SimpleTemplateResponse(engines["django"].from_string("{{ pk }}"), {"pk": order.pk})
    response.add_post_render_callback(lambda r: RENDERED.append(connection.in_atomic_block))
    return response


RENDERED: list[bool] = []

urlpatterns = [
    path("marked/", Marked.as_view()),
    path("template/", template),
    path("cookie/plain/", ensure_csrf_cookie(views.plain_function)),
    path("cookie/apiview/", ensure_csrf_cookie(views.OrderAPIView.as_view())),
    path("", include("tests.urls")),
]


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@pytest.fixture
def _atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


# -- outer middleware


def long_answer(request: Any, order: Order) -> HttpResponse:
    """Long enough for GZipMiddleware, which leaves alone what is shorter than 200 bytes."""
    content = {"id": order.pk, "text": "tea " * 200}
    return JsonResponse(content, status=201, headers={"ETag": '"strong"'})


@every_kind
@pytest.mark.parametrize("first_zipped", [True, False])
def test_gzip_acts_on_replays_by_their_own_accept_encoding(
    send: Any, after: Any, settings: Any, way: str, first_zipped: bool
) -> None:
    """Outer middleware, H4: what is stored is never compressed, whoever asked first."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    after(long_answer)
    key = new_key()

    first = send(way, key=key, **({"Accept_Encoding": "gzip"} if first_zipped else {}))
    zipped, plain = send(way, key=key, Accept_Encoding="gzip"), send(way, key=key)

    assert is_replay(zipped)
    assert is_replay(plain)
    assert ("Content-Encoding" in first) is first_zipped
    assert zipped["Content-Encoding"] == "gzip"
    assert zipped["ETag"] == 'W/"strong"'
    assert "Content-Encoding" not in plain
    assert plain["ETag"] == '"strong"'
    assert gzip.decompress(zipped.content) == plain.content
    assert b'"text"' in plain.content
    for response in (first, zipped, plain):
        assert response["Content-Length"] == str(len(response.content))
        assert "Accept-Encoding" in response["Vary"]
    stored = IdempotencyKey.objects.get()
    assert bytes(stored.response_body or b"") == plain.content
    assert "gzip" not in (stored.response_headers or "")


@every_kind
def test_sessions_are_sent_on_first_answer_and_replay(send: Any, settings: Any, way: str) -> None:
    """Outer middleware: the session's cookie is the middleware's, fresh in each answer."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    send.client.force_login(get_user_model().objects.create_user("alice"))
    key = new_key()

    answers = [send(way, key=key) for _ in range(2)]
    answers.append(send(way, {"sku": "tea", "qty": 2}, key=key))

    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert is_replay(answers[1])
    session = send.client.session.session_key
    assert [answer.cookies["sessionid"].value for answer in answers] == [session] * 3
    assert all("Cookie" in answer["Vary"] for answer in answers)
    assert session not in (IdempotencyKey.objects.get().response_headers or "")


@pytest.mark.parametrize("way", ["/cookie/plain/", "/cookie/apiview/"])
def test_a_csrf_cookie_is_sent_on_first_answer_and_replay(send: Any, way: str) -> None:
    """Outer middleware: the cookie of each client's own, none of it stored."""
    key, other = new_key(), Sender()

    first, retry, elsewhere = send(way, key=key), send(way, key=key), other(way, key=key)

    assert is_replay(retry)
    assert is_replay(elsewhere)
    tokens = [answer.cookies["csrftoken"].value for answer in (first, retry, elsewhere)]
    assert tokens[0] == tokens[1]
    assert tokens[2] != tokens[0]
    stored = IdempotencyKey.objects.get()
    assert "csrftoken" not in (stored.response_headers or "")
    assert tokens[0].encode() not in bytes(stored.response_body or b"")


@every_kind
def test_what_a_view_does_to_cookies_is_done_once(send: Any, after: Any, way: str) -> None:
    """Session and CSRF cookie that the view itself asks for come with the first answer only."""

    def behave(request: Any, order: Order) -> None:
        get_token(getattr(request, "_request", request))

    after(behave)
    key = new_key()

    first, retry, stranger = send(way, key=key), send(way, key=key), Sender()(way, key=key)

    assert "csrftoken" in first.cookies
    assert is_replay(retry)
    assert is_replay(stranger)
    assert not retry.cookies
    assert not stranger.cookies


# -- decorators


def test_a_decorated_post_method_is_finalised(send: Any) -> None:
    """Decorator on a ``post()`` method: rendered, one row, a replay, and its own policy."""
    key = new_key()

    first, retry = send("/marked/", key=key), send("/marked/", key=key)

    assert (first.status_code, retry.status_code) == (201, 201)
    assert is_replay(retry)
    assert send("/marked/").status_code == 400
    assert Order.objects.count() == 1


def test_post_render_callbacks_of_a_django_view_run_once_inside(send: Any) -> None:
    """post_render: of a template response, in our transaction, not on the replay."""
    RENDERED.clear()
    key = new_key()

    answers = [send("/template/", key=key) for _ in range(3)]

    assert [is_replay(answer) for answer in answers] == [False, True, True]
    assert len({answer.content for answer in answers}) == 1
    assert RENDERED == [True]


# -- ATOMIC_REQUESTS

keyed_or_not = pytest.mark.parametrize("keyed", [False, True])


@pytest.mark.usefixtures("_atomic_requests")
@every_kind
def test_a_returned_5xx_is_undone_under_atomic_requests(send: Any, after: Any, way: str) -> None:
    """return Response(status=5xx): rolled back, not stored, whatever ATOMIC_REQUESTS says."""
    key = new_key()
    after(lambda request, order: JsonResponse({}, status=503))

    assert send(way, key=key).status_code == 503
    assert not Order.objects.exists()
    after(lambda request, order: None)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("_atomic_requests")
@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/"])
@keyed_or_not
def test_a_raised_4xx_does_not_poison_a_test_case(after: Any, way: str, keyed: bool) -> None:
    """TestCase, ATOMIC_REQUESTS: DRF's set_rollback() must not hit the test's own transaction."""
    Order.objects.create(sku="of the test")

    def reject(request: Any, order: Order) -> None:
        raise ValidationError

    after(reject)
    status = Sender()(way, key=new_key() if keyed else None).status_code

    assert status == 400
    assert not transaction.get_rollback()
    assert Order.objects.get().sku == "of the test"


@pytest.mark.django_db
@pytest.mark.usefixtures("_atomic_requests")
def test_refusals_do_not_poison_a_test_case() -> None:
    """TestCase, ATOMIC_REQUESTS: none of ours, nor what REST framework says before the view."""
    send, key = Sender(), new_key()
    assert send("/apiview/", key=key).status_code == 201

    assert send("/apiview/", {"qty": 2}, key=key).status_code == 422
    assert send("/apiview/", key="").status_code == 400
    assert send("/marked/").status_code == 400

    assert not transaction.get_rollback()
    assert Order.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("_atomic_requests")
@keyed_or_not
def test_what_drf_refuses_before_the_view_does_not_poison_a_test_case(keyed: bool) -> None:
    """TestCase, ATOMIC_REQUESTS: 405, 406, malformed JSON, a wrong token."""
    send, key = Sender(), new_key() if keyed else None

    assert send("/function/", key=key, method="PATCH", Accept="image/png").status_code == 406
    assert not transaction.get_rollback()
    assert send("/apiview/", key=key, Authorization="Token nobody").status_code == 401
    assert not transaction.get_rollback()
    assert send("/apiview/", "{", key=key).status_code == 400
    assert not transaction.get_rollback()
    assert Client().put("/function/").status_code == 405
    assert not transaction.get_rollback()


def test_a_view_beside_a_protected_one_keeps_its_transactions() -> None:
    """functools.wraps hands on the very set in which Django notes who does without."""

    @transaction.non_atomic_requests(using="other")
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    protected = idempotent(view)

    assert vars(view)["_non_atomic_requests"] == {"other"}
    assert vars(protected)["_non_atomic_requests"] == {"other", "default"}
