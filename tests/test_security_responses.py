"""Security rows S12, S14-S16, S25, S26: what is stored of a response, and what is replayed."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.signing import dumps
from django.http import HttpResponse, JsonResponse
from django.test import Client

from django_idempotency.models import IdempotencyKey
from tests.conformance.views_more import Gate
from tests.orders.models import Order
from tests.sender import Sender, new_key

pytestmark = pytest.mark.urls("tests.conformance.views_more")
every_kind = pytest.mark.parametrize("way", ["/apiview/", "/function/", "/plain/", "/async/"])


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


def everything_stored() -> str:
    """All columns of all keys, binary ones decoded."""
    rows = IdempotencyKey.objects.values_list()
    return "\n".join(
        bytes(value).decode("latin-1") if isinstance(value, (bytes, memoryview)) else str(value)
        for row in rows
        for value in row
    )


# -- cookies and pages


@every_kind
def test_s12_no_cookie_is_stored_or_replayed(send: Any, after: Any, way: str) -> None:
    """S12: set as a cookie, signed, deleted, or as a header by hand in any case."""

    def behave(request: Any, order: Order) -> HttpResponse:
        response = JsonResponse({"id": order.pk}, status=201, headers={"X-Kept": "yes"})
        response.set_cookie("sess", "canary-plain", httponly=True, secure=True)
        response.set_signed_cookie("signed", "canary-signed")
        response.delete_cookie("old-canary")
        response["set-COOKIE"] = "raw=canary-raw"
        return response

    after(behave)
    key = new_key()
    first = send(way, key=key)
    assert first.cookies["sess"].value == "canary-plain"

    replay = send(way, key=key)

    assert is_replay(replay)
    assert replay["X-Kept"] == "yes"
    assert not replay.cookies
    assert "Set-Cookie" not in replay
    assert "canary" not in everything_stored()


@pytest.mark.parametrize("way", ["/apiview/", "/function/", "/plain/"])
def test_s12_a_replay_gives_nobody_the_session(send: Any, after: Any, way: str) -> None:
    """S12: a view that begins a session: its cookie is the first client's alone."""

    def behave(request: Any, order: Order) -> None:
        request.session["cart"] = order.pk

    after(behave)
    key, stranger = new_key(), Sender()

    first, theirs = send(way, key=key), stranger(way, key=key)

    session = first.cookies["sessionid"].value
    assert is_replay(theirs)
    assert "sessionid" not in theirs.cookies
    assert "cart" not in stranger.client.session
    assert session not in everything_stored()


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"])
def test_s14_no_browsable_page_is_stored(send: Any, way: str) -> None:
    """S14: signed in by session, where the page would hold a CSRF token and the user's name."""
    send.client.force_login(get_user_model().objects.create_user("canary-alice"))

    for accept in ("text/html", "text/html, */*;q=0.1", "text/*", "*/*"):
        key = new_key()
        for _ in range(2):
            answer = send(way, key=key, Accept=accept)
            assert answer.status_code == 201
            assert answer["Content-Type"] == "application/json"

    stored = everything_stored().lower()
    assert not [word for word in ("<html", "csrf", "canary-alice") if word in stored]
    assert Order.objects.count() == 4


# -- rows that were tampered with

TAMPERED = [
    ["X-A", "1\r\nSet-Cookie: a=b"],
    ["X-A", "1\nX-B: 2"],
    ["X-A\r\nSet-Cookie: a", "b"],
    ["X-A: 1\r\n\r\n<html>", ""],
]


@every_kind
def test_s15_a_tampered_header_is_a_clean_500(send: Any, way: str) -> None:
    """S15: a line break in a stored name or value splits no response and runs nothing."""
    key = new_key()
    send(way, key=key)

    for pair in TAMPERED:
        IdempotencyKey.objects.update(response_headers=json.dumps([pair]))
        replay = send(way, key=key)
        assert replay.status_code == 500
        assert not replay.cookies
        assert not {"X-A", "X-B", "Set-Cookie"} & set(replay.headers)
    assert Order.objects.count() == 1


@every_kind
def test_s15_a_view_cannot_store_a_line_break(send: Any, after: Any, way: str) -> None:
    """S15: Django refuses it in the view: 500, no row, nothing stored."""
    after(lambda request, order: HttpResponse(headers={"X-A": "1\r\nX-B: 2"}))

    assert send(way, key=new_key()).status_code == 500
    assert not Order.objects.exists()
    assert IdempotencyKey.objects.get().response_headers is None


FIRED: list[str] = []


def fire() -> None:
    FIRED.append("fired")


class Exploit:
    """Unpickled, it says so."""

    def __reduce__(self) -> Any:
        return fire, ()


@pytest.mark.parametrize("column", ["response_body", "response_headers", "request_record"])
def test_s16_no_column_is_unpickled(send: Any, column: str) -> None:
    """S16: a payload in any column, through replay, conflict and admin: it never runs."""
    payload = pickle.dumps(Exploit(), protocol=0)
    pickle.loads(payload)  # noqa: S301 - the payload works
    assert FIRED.pop() == "fired"
    key = new_key()
    send("/plain/", key=key)
    stored = payload if column == "response_body" else payload.decode()
    IdempotencyKey.objects.update(**{column: stored})

    replay, conflict = send("/plain/", key=key), send("/plain/", {"sku": "x"}, key=key)

    client = Client(raise_request_exception=False)
    client.force_login(get_user_model().objects.create_superuser("root"))
    client.get(
        f"/admin/django_idempotency/idempotencykey/{IdempotencyKey.objects.get().pk}/change/"
    )
    assert not FIRED
    assert replay.status_code == (500 if column == "response_headers" else 201)
    assert conflict.status_code in {422, 500}
    if column == "response_body":
        assert replay.content == payload
    assert Order.objects.count() == 1


def test_s16_a_signed_row_is_no_exception(send: Any) -> None:
    """S16: Django's own signed values in a body are bytes like any others."""
    key, signed = new_key(), dumps({"a": 1}).encode()
    send("/plain/", key=key)
    IdempotencyKey.objects.update(response_body=signed)

    assert send("/plain/", key=key).content == signed


# -- caches and media types


@pytest.mark.row_locks
@every_kind
def test_s25_refusals_and_replays_are_for_no_cache(send: Any, after: Any, way: str) -> None:
    """S25: replay, 400, 409, 422: no-store, and Vary as the view said."""
    gate = Gate()
    key, busy = new_key(), new_key()
    after(lambda request, order: JsonResponse({}, status=201, headers={"Vary": "X-Tenant"}))
    first = send(way, key=key)
    answers = {201: send(way, key=key), 422: send(way, {"sku": "x"}, key=key)}
    answers[400] = send(way, key='"broken')
    after(gate)
    with gate.hold(way, key=busy):
        answers[409] = send(way, key=busy)

    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer["Cache-Control"] == "no-store"
    assert "X-Tenant" in answers[201]["Vary"]
    assert answers[201]["Vary"] == first["Vary"]


@every_kind
def test_s25_a_view_that_says_more_about_caches_is_kept(send: Any, after: Any, way: str) -> None:
    """S25, H16: its own Cache-Control is replayed as it was."""
    headers = {"Cache-Control": "private, max-age=5"}
    after(lambda request, order: JsonResponse({}, status=201, headers=headers))
    key = new_key()

    for _ in range(2):
        assert send(way, key=key)["Cache-Control"] == "private, max-age=5"


def test_s26_bytes_are_what_they_are_declared_to_be(send: Any, settings: Any) -> None:
    """S26: XML stored, JSON or anything asked: XML that says it is XML, and no sniffing."""
    settings.SECURE_CONTENT_TYPE_NOSNIFF = False  # Django's middleware would add it
    key = new_key()
    first = send("/two-forms/", key=key, Accept="application/xml")
    assert first["Content-Type"].startswith("application/xml")
    assert first.content.startswith(b"<order>")

    for accept in ("application/json", "application/xml", "*/*"):
        replay = send("/two-forms/", key=key, Accept=accept)
        assert is_replay(replay)
        assert (replay.content, replay["Content-Type"]) == (first.content, first["Content-Type"])
        assert replay["X-Content-Type-Options"] == "nosniff"
    assert Order.objects.count() == 1
