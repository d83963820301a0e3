"""Rows E of the specification: what is stored, what is undone, what a client is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response

from django_idempotency.models import IdempotencyKey
from tests.conformance.test_first_and_replay import every_way
from tests.orders.models import Order
from tests.sender import new_key

drf_way = pytest.mark.parametrize(
    "way", ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"]
)


def usual(request: Any, order: Order) -> None:
    """The view's own 201."""


def raising(error: Exception) -> Any:
    def behave(request: Any, order: Order) -> None:
        raise error

    return behave


def answering(status: int) -> Any:
    return lambda request, order: JsonResponse({"order": order.sku}, status=status)


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@drf_way
def test_e1_a_raised_400_is_undone_and_a_corrected_body_runs(
    send: Any, after: Any, way: str
) -> None:
    """E1: STORE_RAISED_4XX=False, the default."""
    key = new_key()
    after(raising(ValidationError({"qty": "too many"})))

    refused = send(way, {"sku": "tea", "qty": 9}, key=key)
    assert (refused.status_code, refused.json()) == (400, {"qty": "too many"})
    assert refused["Idempotency-Key"] == key
    assert not Order.objects.exists()
    after(usual)
    corrected = send(way, {"sku": "tea", "qty": 1}, key=key)

    assert corrected.status_code == 201
    assert not is_replay(corrected)
    assert Order.objects.count() == 1


@drf_way
def test_e1_a_raised_400_can_be_stored(send: Any, after: Any, settings: Any, way: str) -> None:
    """E1: STORE_RAISED_4XX=True: undone all the same, replayed, and 422 for a corrected body."""
    settings.IDEMPOTENCY = {"STORE_RAISED_4XX": True}
    key = new_key()
    after(raising(ValidationError({"qty": "too many"})))
    refused = send(way, {"sku": "tea", "qty": 9}, key=key)
    after(usual)

    again = send(way, {"sku": "tea", "qty": 9}, key=key)
    corrected = send(way, {"sku": "tea", "qty": 1}, key=key)

    assert refused.status_code == 400
    assert (again.status_code, again.content) == (400, refused.content)
    assert is_replay(again)
    assert corrected.status_code == 422
    assert not Order.objects.exists()


@pytest.mark.parametrize("way", ["/plain/", "/class/", "/async/", "/apiview/"])
@pytest.mark.parametrize(
    ("error", "status"), [(Http404("no tea"), 404), (PermissionDenied("no tea"), 403)]
)
@pytest.mark.parametrize("stored", [False, True])
def test_e1_djangos_own_exceptions_are_raised_answers_too(
    send: Any, after: Any, settings: Any, way: str, error: Exception, status: int, stored: bool
) -> None:
    """E1, E4: Http404 is stored where the setting says so; a 403 never."""
    settings.IDEMPOTENCY = {"STORE_RAISED_4XX": stored}
    key = new_key()
    after(raising(error))
    first = send(way, key=key)
    assert not Order.objects.exists()
    after(usual)

    retry = send(way, key=key)

    kept = stored and status == 404
    assert first.status_code == status
    assert retry.status_code == (404 if kept else 201)
    assert is_replay(retry) is kept
    assert Order.objects.count() == (0 if kept else 1)


@every_way
@pytest.mark.parametrize("status", [400, 402, 404, 409, 410, 422])
def test_e2_e3_a_returned_4xx_is_final(send: Any, after: Any, way: str, status: int) -> None:
    """E2, E3: the view's row stays, the answer is stored and replayed."""
    key = new_key()
    after(answering(status))
    first = send(way, key=key)
    after(usual)

    retry = send(way, key=key)

    assert first.status_code == status
    assert (retry.status_code, retry.content) == (status, first.content)
    assert is_replay(retry)
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("status", [401, 403, 408, 423, 425, 429])
def test_e4_some_returned_statuses_are_never_stored(
    send: Any, after: Any, way: str, status: int
) -> None:
    """E4: rolled back, not stored; the retry runs."""
    key = new_key()
    after(answering(status))

    first = send(way, key=key)
    assert first.status_code == status
    assert not Order.objects.exists()
    after(usual)
    retry = send(way, key=key)

    assert retry.status_code == 201
    assert not is_replay(retry)
    assert Order.objects.count() == 1


@every_way
def test_e4_the_list_can_be_changed(send: Any, after: Any, settings: Any, way: str) -> None:
    """E4: NEVER_STORE={402}: 402 is undone, 403 is final."""
    settings.IDEMPOTENCY = {"NEVER_STORE": {402}}
    declined, forbidden = new_key(), new_key()
    after(answering(402))
    assert send(way, key=declined).status_code == 402
    assert not Order.objects.exists()
    after(answering(403))
    assert send(way, key=forbidden).status_code == 403
    assert Order.objects.count() == 1
    after(usual)

    assert send(way, key=declined).status_code == 201
    assert send(way, key=forbidden).status_code == 403
    assert Order.objects.count() == 2


@every_way
@pytest.mark.parametrize("stored", [False, True])
def test_e5_an_unhandled_exception(
    send: Any, after: Any, settings: Any, way: str, stored: bool
) -> None:
    """E5: undone always; the key is free, or with STORE_5XX the failure is replayed."""
    settings.IDEMPOTENCY = {"STORE_5XX": stored}
    key = new_key()
    after(raising(RuntimeError("secret")))
    first = send(way, key=key)
    assert first.status_code == 500
    assert not Order.objects.exists()
    after(usual)

    retry = send(way, key=key)

    assert retry.status_code == (500 if stored else 201)
    assert is_replay(retry) is stored
    assert b"secret" not in retry.content
    assert Order.objects.count() == (0 if stored else 1)


@every_way
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("stored", [False, True])
def test_e6_a_returned_5xx(
    send: Any, after: Any, settings: Any, way: str, status: int, stored: bool
) -> None:
    """E6: undone and not stored; with STORE_5XX it is final like any other answer."""
    settings.IDEMPOTENCY = {"STORE_5XX": stored}
    key = new_key()
    after(answering(status))
    assert send(way, key=key).status_code == status
    assert Order.objects.count() == (1 if stored else 0)
    after(usual)

    retry = send(way, key=key)

    assert retry.status_code == (status if stored else 201)
    assert is_replay(retry) is stored
    assert Order.objects.count() == 1


@drf_way
def test_e8_a_response_that_cannot_be_rendered_undoes_the_view(
    send: Any, after: Any, way: str
) -> None:
    """E8: 500, no row; the retry runs."""
    key = new_key()
    after(lambda request, order: Response({"order": object()}, status=201))

    assert send(way, key=key).status_code == 500
    assert not Order.objects.exists()
    after(usual)

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/", "/plain/", "/class/"])
def test_e9_a_failing_on_commit_callback_costs_only_the_answer(
    send: Any, after: Any, way: str
) -> None:
    """E9: the 201 is stored by then; the retry replays it."""
    key = new_key()

    def fail() -> None:
        raise RuntimeError

    after(lambda request, order: transaction.on_commit(fail))
    assert send(way, key=key).status_code == 500
    assert Order.objects.count() == 1

    retry = send(way, key=key)

    assert retry.status_code == 201
    assert is_replay(retry)
    assert Order.objects.count() == 1


RETRYABLE = {  # what asks for a retry, and the number MySQL and MariaDB have for it
    "40001": 1213,
    "40P01": 1020,
    "55P03": 1205,
    "57014": 1317,
    "53300": 1040,
}


def raised_by_server(state: str) -> str:
    """A statement that the server answers with this error."""
    if connection.vendor == "mysql":
        return f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {RETRYABLE[state]}, MESSAGE_TEXT = 'x'"
    return f"DO $$ BEGIN RAISE 'x' USING ERRCODE = '{state}'; END $$"


@pytest.mark.row_locks
@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/", "/plain/", "/class/"])
@pytest.mark.parametrize("state", RETRYABLE)
@pytest.mark.parametrize("stored", [False, True])
def test_e10_a_database_that_asks_for_a_retry(
    send: Any, after: Any, settings: Any, way: str, state: str, stored: bool
) -> None:
    """E10: 503 with Retry-After, never a stored 500 whatever STORE_5XX says."""
    settings.IDEMPOTENCY = {"STORE_5XX": stored}
    key = new_key()

    def fail(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute(raised_by_server(state))

    after(fail)
    first = send(way, key=key)
    assert first.status_code == 503
    assert first["Retry-After"].isdigit()
    assert not Order.objects.exists()
    after(usual)
    retry = send(way, key=key)

    assert retry.status_code == 201
    assert not is_replay(retry)
    assert Order.objects.count() == 1


def _refusals(send: Any) -> list[Any]:
    key = new_key()
    send("/apiview/", key=key)
    return [
        send("/required/"),
        send("/apiview/", key=""),
        send("/apiview/", key="short"),
        send("/apiview/", {"sku": "tea", "qty": 2}, key=key),
    ]


def test_e11_problems_have_stable_types_and_constant_titles(send: Any, settings: Any) -> None:
    """E11: type URIs under DOCS_URL, the status in the body, the same title each time."""
    settings.IDEMPOTENCY = {"DOCS_URL": "https://docs.example/p/"}

    first, again = _refusals(send), _refusals(send)

    slugs = ["key-missing", "key-invalid", "key-too-short", "key-reused"]
    for response, repeated, slug in zip(first, again, slugs, strict=True):
        problem = response.json()
        assert problem["type"] == f"https://docs.example/p/{slug}"
        assert problem["status"] == response.status_code
        assert problem["title"] == repeated.json()["title"]
        assert problem["detail"]
        assert response["Link"] == f'<{problem["type"]}>; rel="describedby"'


def test_e12_problem_json_even_for_clients_that_ask_for_json(send: Any) -> None:
    """E12: ERROR_FORMAT="problem", the default."""
    response = send("/required/", Accept="application/json")

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(response.json())


def test_e12_errors_as_drf_spells_them(send: Any, settings: Any) -> None:
    """E12: ERROR_FORMAT="drf"."""
    settings.IDEMPOTENCY = {"ERROR_FORMAT": "drf"}

    for response in _refusals(send):
        assert response["Content-Type"] == "application/json"
        assert set(response.json()) == {"detail", "code"}


def test_h16_refusals_are_not_cached(send: Any) -> None:
    """H16: our errors are no-store."""
    for response in _refusals(send):
        assert response["Cache-Control"] == "no-store"


class Teapot(APIException):
    status_code = 418
    default_detail = "short and stout"


@drf_way
def test_e1_whatever_drf_turns_into_an_answer_is_undone(send: Any, after: Any, way: str) -> None:
    """E1: any APIException, its answer unchanged."""
    key = new_key()
    after(raising(Teapot()))

    refused = send(way, key=key)

    assert refused.status_code == 418
    assert json.loads(refused.content) == {"detail": "short and stout"}
    assert not Order.objects.exists()


@every_way
def test_r7_a_redirect_is_replayed(send: Any, after: Any, way: str) -> None:
    """R7: the same 3xx with its Location."""
    key = new_key()
    after(lambda request, order: HttpResponse(status=303, headers={"Location": "/orders/1/"}))
    send(way, key=key)

    retry = send(way, key=key)

    assert (retry.status_code, retry["Location"]) == (303, "/orders/1/")
    assert is_replay(retry)
    assert Order.objects.count() == 1


@every_way
def test_r5_a_replay_needs_no_working_view(send: Any, after: Any, way: str) -> None:
    """R5: the view would raise now; the stored answer is served."""
    key = new_key()
    first = send(way, key=key)
    after(raising(RuntimeError()))

    retry = send(way, key=key)

    assert (retry.status_code, retry.content) == (201, first.content)
    assert Order.objects.count() == 1


@every_way
def test_r2_a_replay_shows_what_was_answered_not_what_is(send: Any, way: str) -> None:
    """R2: edited or deleted since, the original response is replayed."""
    key = new_key()
    first = send(way, key=key)
    Order.objects.update(qty=99)
    edited = send(way, key=key)
    Order.objects.all().delete()
    deleted = send(way, key=key)

    assert first.content == edited.content == deleted.content
    assert not Order.objects.exists()


# Django 6.1 wants MAILERS in the settings, which 5.2 does not know.
@pytest.mark.filterwarnings("ignore:.*MAILERS:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*MAILERS:PendingDeprecationWarning")
@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/", "/plain/", "/class/"])
def test_r4_a_replay_runs_no_callbacks(send: Any, after: Any, mailoutbox: Any, way: str) -> None:
    """R4: on_commit hooks, mail and the signals of the view's rows: once each."""
    key, committed, saved = new_key(), [], []

    def behave(request: Any, order: Order) -> None:
        mail.send_mail("placed", "", None, ["till@example.org"])
        transaction.on_commit(lambda: committed.append(order.pk))

    def receive(instance: Order, **kwargs: Any) -> None:
        saved.append(instance.pk)

    after(behave)
    post_save.connect(receive, sender=Order)
    try:
        for _ in range(3):
            assert send(way, key=key).status_code == 201
    finally:
        post_save.disconnect(receive, sender=Order)

    assert committed == saved == [Order.objects.get().pk]
    assert [message.subject for message in mailoutbox] == ["placed"]


def test_e5_the_key_of_a_failed_request_is_unfinished(send: Any, after: Any) -> None:
    """E5: what is left of a failure is a key without a response, and a count."""
    key = new_key()
    after(raising(RuntimeError()))
    send("/apiview/", key=key)

    record = IdempotencyKey.objects.get()
    assert record.completed_at is None
    assert record.failure_count == 1
