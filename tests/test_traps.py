"""Traps of Django and REST framework, one test each: what the client is told is what was kept."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, connection, connections, transaction
from django.db.models.signals import post_save
from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.orders.models import Order
from tests.orders.views import OrderAPIView
from tests.sender import new_key

pytestmark = pytest.mark.urls("tests.conformance.views_more")
SYNC_WAYS = ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/", "/plain/", "/class/"]
DRF_WAYS = SYNC_WAYS[:4]
sync_way = pytest.mark.parametrize("way", SYNC_WAYS)
drf_way = pytest.mark.parametrize("way", DRF_WAYS)


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def transactions(request: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both values of ATOMIC_REQUESTS."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


both = pytest.mark.usefixtures("transactions")


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@both
@drf_way
def test_a_raised_400_leaves_no_row(send: Any, after: Any, way: str) -> None:
    """atomic around dispatch(), set_rollback(): no row in either setting; the retry runs."""
    key = new_key()

    def reject(request: Any, order: Order) -> None:
        raise ValidationError({"qty": "no"})

    after(reject)
    assert send(way, key=key).status_code == 400
    assert not Order.objects.exists()
    after(usual)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@both
@sync_way
def test_a_returned_400_keeps_its_row(send: Any, after: Any, way: str) -> None:
    """return Response(status=400) after a write: decided, committed, stored."""
    key = new_key()
    after(lambda request, order: JsonResponse({"no": 1}, status=400))

    assert send(way, key=key).status_code == 400
    assert Order.objects.count() == 1

    assert is_replay(send(way, key=key))
    assert Order.objects.count() == 1


@both
@drf_way
def test_lazy_rendering_happens_inside(send: Any, after: Any, way: str) -> None:
    """What cannot be rendered is a 500 without a row, and can be retried."""
    key = new_key()
    after(lambda request, order: Response({"it": object()}))

    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    after(usual)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@both
def test_a_decorated_method_is_finalised(send: Any) -> None:
    """@idempotent on a method: no "accepted_renderer not set", one row, a replay."""
    key = new_key()

    assert send("/viewset/reorder/", key=key).status_code == 201
    assert is_replay(send("/viewset/reorder/", key=key))
    assert Order.objects.count() == 1


def swallowing(statement: Any) -> Any:
    def behave(request: Any, order: Order) -> None:
        try:
            statement(order)
        except DatabaseError:
            return
        pytest.fail("the statement did not fail")

    return behave


def by_orm(order: Order) -> None:
    Order.objects.create(pk=order.pk, sku="twice")


def by_sql(order: Order) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


@pytest.mark.postgres
@both
@sync_way
@pytest.mark.parametrize("statement", [by_orm, by_sql])
@pytest.mark.parametrize("stored", [None, "STORE_RAISED_4XX", "STORE_5XX"])
def test_a_swallowed_database_error_is_no_phantom_success(
    send: Any, after: Any, caplog: Any, settings: Any, way: str, statement: Any, stored: str | None
) -> None:
    """ORM or raw SQL: 500, no row, no callback, an error that says what to do; the retry runs.

    The settings that keep failures keep what the view answers; this is no answer of the view.
    """
    settings.IDEMPOTENCY = {stored: True} if stored else {}
    key, called = new_key(), []
    swallow = swallowing(statement)

    def behave(request: Any, order: Order) -> None:
        transaction.on_commit(lambda: called.append(order))
        swallow(request, order)

    after(behave)
    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    assert not called
    assert "transaction.atomic()" in caplog.text
    after(usual)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@both
@sync_way
def test_an_error_in_a_savepoint_may_be_swallowed(send: Any, after: Any, way: str) -> None:
    """Nested atomics are savepoints as usual: the outer write stays."""

    def inner(order: Order) -> None:
        with transaction.atomic():
            by_orm(order)

    after(swallowing(inner))

    assert send(way, key=new_key()).status_code == 201
    assert Order.objects.get().sku == "tea"


@both
@sync_way
def test_callbacks_run_once_after_our_commit(send: Any, after: Any, way: str) -> None:
    """transaction.on_commit: outside any transaction, once; dropped with a savepoint."""
    key, seen = new_key(), []

    def behave(request: Any, order: Order) -> None:
        transaction.on_commit(lambda: seen.append(connection.in_atomic_block))
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append(True))
            transaction.set_rollback(True)

    after(behave)
    for _ in range(3):
        assert send(way, key=key).status_code == 201

    assert seen == [False]


@both
@sync_way
def test_a_raising_callback_costs_the_answer_only(send: Any, after: Any, way: str) -> None:
    """on_commit that raises: 500 though committed; the retry replays the 201."""
    key = new_key()

    def fail() -> None:
        raise RuntimeError

    after(lambda request, order: transaction.on_commit(fail))

    assert send(way, key=key).status_code == 500
    retry = send(way, key=key)
    assert (retry.status_code, is_replay(retry)) == (201, True)
    assert Order.objects.count() == 1


@both
@pytest.mark.parametrize("way", [*SYNC_WAYS, "/async/"])
def test_atomic_requests_change_nothing(send: Any, after: Any, way: str) -> None:
    """ATOMIC_REQUESTS: no RuntimeError; one row, a replay, and a conflict that is counted."""
    key = new_key()

    assert send(way, key=key).status_code == 201
    assert is_replay(send(way, key=key))
    assert send(way, {"sku": "tea", "qty": 2}, key=key).status_code == 422
    assert Order.objects.count() == 1
    tally = KeyTally.objects.get()
    assert (tally.replay_count, tally.conflict_count) == (1, 1)


@drf_way
def test_without_a_key_atomic_requests_still_hold(
    send: Any, after: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Taken out of Django's ATOMIC_REQUESTS, a view without a key keeps its transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)

    assert send(way).status_code == 500
    assert not Order.objects.exists()


def test_an_enclosing_transaction_is_refused(transactional_db: None) -> None:
    """Called inside someone's atomic(): a loud error, and nothing ran."""
    request = RequestFactory().post(
        "/apiview/", {"sku": "tea"}, "application/json", headers={"Idempotency-Key": new_key()}
    )

    with pytest.raises(ImproperlyConfigured, match="atomic"), transaction.atomic():
        OrderAPIView.as_view()(request)

    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@both
@drf_way
def test_post_render_callbacks_run_once_inside(send: Any, after: Any, way: str) -> None:
    """add_post_render_callback: in our transaction, on the first answer only."""
    key, seen = new_key(), []

    def behave(request: Any, order: Order) -> Response:
        response = Response({"id": order.pk}, status=201)
        response.add_post_render_callback(lambda r: seen.append(connection.in_atomic_block))
        return response

    after(behave)
    for _ in range(2):
        assert send(way, key=key).status_code == 201

    assert seen == [True]


@both
@sync_way
@pytest.mark.parametrize("kind", ["stream", "file"])
def test_generators_run_inside_the_transaction(send: Any, after: Any, way: str, kind: str) -> None:
    """Streaming: buffered before the commit, so it can fail without effects, and replays."""
    key, inside = new_key(), []

    def chunks() -> Any:
        inside.append(connection.in_atomic_block)
        yield b"one"

    def behave(request: Any, order: Order) -> Any:
        return (
            StreamingHttpResponse(chunks()) if kind == "stream" else FileResponse(BytesIO(b"one"))
        )

    after(behave)
    first, retry = send(way, key=key), send(way, key=key)

    assert b"".join(first) == b"one"
    assert (b"".join(retry), is_replay(retry)) == (b"one", True)
    assert inside == ([True] if kind == "stream" else [])
    assert Order.objects.count() == 1


@both
@sync_way
def test_a_generator_that_fails_undoes_the_view(send: Any, after: Any, way: str) -> None:
    """Streaming: an error in the generator is a 500 without a row."""
    key = new_key()

    def chunks() -> Any:
        yield b"one"
        raise RuntimeError

    after(lambda request, order: StreamingHttpResponse(chunks()))
    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    after(usual)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@drf_way
def test_the_browsable_page_is_never_stored(send: Any, way: str) -> None:
    """Accept: text/html: a storable renderer is chosen, no CSRF token in the table."""
    key = new_key()

    first, retry = (send(way, key=key, Accept="text/html") for _ in range(2))

    assert first["Content-Type"].startswith("application/json")
    assert is_replay(retry)
    stored = bytes(IdempotencyKey.objects.get().response_body or b"")
    assert b"<html" not in stored.lower()
    assert b"csrf" not in stored.lower()
    assert Order.objects.count() == 1


def test_a_view_with_nothing_but_the_browsable_page_refuses(send: Any) -> None:
    """Nothing storable to choose: 406, no row, no key."""
    assert send("/html-only/", key=new_key(), Accept="text/html").status_code == 406
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("way", ["/plain/", "/apiview/"])
def test_a_large_upload_works_with_a_key(send: Any, after: Any, way: str) -> None:
    """Body access: 3 MB multipart, past DATA_UPLOAD_MAX_MEMORY_SIZE, and the view reads it."""
    sizes: list[int] = []
    after(lambda request, order: sizes.append(request.FILES["file"].size))
    client, key, content = Client(), new_key(), b"x" * 3_000_000

    answers = [
        client.post(
            way,
            {"sku": "tea", "file": SimpleUploadedFile("a.bin", content)},
            headers={"Idempotency-Key": key},
        )
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert is_replay(answers[1])
    assert sizes == [3_000_000]
    assert Order.objects.count() == 1


@sync_way
def test_the_raw_body_stays_readable(send: Any, after: Any, way: str) -> None:
    """Body access: request.body in the view of a plain function, request.data in DRF."""
    seen: list[Any] = []
    after(lambda request, order: seen.append(getattr(request, "data", None) or request.body))

    assert send(way, key=new_key()).status_code == 201
    assert seen


def test_a_new_boundary_is_no_new_request(send: Any) -> None:
    """Multipart: the same form encoded anew is a replay."""
    key = new_key()
    answers = []
    for boundary in ("one", "two"):
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="sku"\r\n\r\ntea\r\n'
        kind = f"multipart/form-data; boundary={boundary}"
        answers.append(send("/plain/", f"{body}--{boundary}--\r\n", key=key, content_type=kind))

    assert [answer.status_code for answer in answers] == [201, 201]
    assert is_replay(answers[1])
    assert Order.objects.count() == 1


@sync_way
@pytest.mark.parametrize("body", [b'{"b":1,"a":2,"a":3}', b'{"x":"\\u0000"}', b"\x00\xff"])
def test_bodies_are_bytes_not_json(send: Any, after: Any, way: str, body: bytes) -> None:
    """JSONB would reorder keys, drop duplicates and choke on NUL."""
    key = new_key()
    after(lambda request, order: _raw(body))
    send(way, key=key)

    retry = send(way, key=key)

    assert (retry.content, is_replay(retry)) == (body, True)


def _raw(body: bytes) -> Any:
    response = JsonResponse({}, status=201)
    response.content = body
    return response


@both
@sync_way
def test_signals_are_in_the_transaction(send: Any, after: Any, way: str) -> None:
    """post_save of the view's row: inside, and its own writes are undone with the view's."""
    inside: list[bool] = []

    def receive(instance: Order, **kwargs: Any) -> None:
        if instance.sku == "tea":
            inside.append(connection.in_atomic_block)
            Order.objects.create(sku="by-signal")

    def fail(request: Any, order: Order) -> None:
        raise RuntimeError

    after(fail)
    post_save.connect(receive, sender=Order)
    try:
        assert send(way, key=new_key()).status_code == 500
    finally:
        post_save.disconnect(receive, sender=Order)

    assert inside == [True]
    assert not Order.objects.exists()


@both
@pytest.mark.parametrize("status", [201, 500])
def test_async_views_share_the_transaction(send: Any, after: Any, status: int) -> None:
    """atomic() is sync-only: an async view's writes are committed or undone with its answer."""
    key = new_key()

    def behave(request: Any, order: Order) -> None:
        if status == 500:
            raise RuntimeError

    after(behave)

    assert send("/async/", key=key).status_code == status
    assert Order.objects.count() == (1 if status == 201 else 0)
    assert IdempotencyKey.objects.completed().count() == Order.objects.count()
