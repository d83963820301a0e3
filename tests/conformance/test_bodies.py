"""Rows H of the specification: bodies, headers, negotiation, browsers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import Client
from rest_framework.response import Response

from django_idempotency.models import IdempotencyKey
from tests.conformance.test_first_and_replay import every_way
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = pytest.mark.urls("tests.conformance.views_more")
sync_way = pytest.mark.parametrize(
    "way", ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/", "/plain/", "/class/"]
)

HEADERS = {
    "Location": "/orders/1/",
    "Content-Location": "/orders/1.json",
    "ETag": '"v1"',
    "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    "Link": '</orders/>; rel="up", </orders/2/>; rel="next"',
    "Content-Disposition": 'attachment; filename="a,b.json"',
    "Content-Language": "de",
    "X-Payment-Id": "pay_1",
    "Cache-Control": "private, max-age=60",
}


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


def body_of(response: Any) -> bytes:
    return b"".join(response) if response.streaming else response.content


def answer_with(**options: Any) -> Any:
    return lambda request, order: HttpResponse(**options)


@every_way
def test_h1_h16_headers_of_the_view_are_replayed(send: Any, after: Any, way: str) -> None:
    """H1, H16: verbatim, commas and the view's Cache-Control included."""
    key = new_key()
    after(lambda request, order: JsonResponse({"id": order.pk}, status=201, headers=HEADERS))

    first, retry = send(way, key=key), send(way, key=key)

    for name, value in HEADERS.items():
        assert first[name] == value
        assert retry[name] == value
    assert retry["Content-Type"] == first["Content-Type"]


@every_way
def test_h2_h3_headers_of_the_moment_are_not_replayed(send: Any, after: Any, way: str) -> None:
    """H2, H3: cookies, dates, request ids and rate limits stay with the first answer."""
    fresh = {
        "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
        "X-Request-ID": "r1",
        "X-RateLimit-Remaining": "9",
        "Server-Timing": "db;dur=1",
    }

    def behave(request: Any, order: Order) -> HttpResponse:
        response = JsonResponse({}, headers=fresh)
        response.set_cookie("session", "secret")
        return response

    after(behave)
    key = new_key()
    first, retry = send(way, key=key), send(way, key=key)

    assert first.cookies["session"].value == "secret"
    assert first["X-Request-ID"] == "r1"
    assert is_replay(retry)
    assert not retry.cookies
    assert not set(fresh) & set(retry.headers)
    assert "secret" not in (IdempotencyKey.objects.get().response_headers or "")


@every_way
def test_h4_middleware_acts_once_on_replays_too(
    send: Any, after: Any, settings: Any, way: str
) -> None:
    """H4: gzip and X-Frame-Options come from outside; Content-Length is right."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    long = "tea " * 100  # GZipMiddleware leaves alone what is shorter than 200 bytes
    after(lambda request, order: JsonResponse({"text": long}, status=201))
    key = new_key()
    first = send(way, key=key, Accept_Encoding="gzip")

    retry = send(way, key=key, Accept_Encoding="gzip")
    plain = send(way, key=key)

    for response in (first, retry, plain):
        assert response["Content-Length"] == str(len(response.content))
        assert response["X-Frame-Options"] == "DENY"
    assert first["Vary"] == retry["Vary"]
    assert first["Content-Encoding"] == retry["Content-Encoding"] == "gzip"
    assert gzip.decompress(first.content) == gzip.decompress(retry.content) == plain.content
    assert "Content-Encoding" not in plain


@every_way
def test_h5_binary_bodies_are_replayed_byte_for_byte(send: Any, after: Any, way: str) -> None:
    """H5: bytes 0x00-0xff as application/pdf."""
    everything = bytes(range(256))
    after(answer_with(content=everything, content_type="application/pdf"))
    key = new_key()
    send(way, key=key)

    retry = send(way, key=key)

    assert is_replay(retry)
    assert retry.content == everything
    assert retry["Content-Type"] == "application/pdf"


@sync_way
def test_h6_a_204_stays_a_204(send: Any, after: Any, way: str) -> None:
    """H6: empty, and without a Content-Type that the first did not have."""

    def behave(request: Any, order: Order) -> Any:
        if hasattr(request, "accepted_renderer"):
            return Response(status=204)
        response = HttpResponse(status=204)
        del response["Content-Type"]
        return response

    after(behave)
    key = new_key()
    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, retry.status_code) == (204, 204)
    assert is_replay(retry)
    assert retry.content == b""
    assert "Content-Type" not in first
    assert "Content-Type" not in retry
    assert Order.objects.count() == 1


def test_h7_template_responses_are_stored_rendered(send: Any) -> None:
    """H7: rendered inside, replayed as text."""
    key = new_key()

    first, retry = send("/template/", key=key), send("/template/", key=key)

    assert first.status_code == 201
    assert first.content == f"order {Order.objects.get().pk}".encode()
    assert (retry.status_code, retry.content, is_replay(retry)) == (201, first.content, True)


@every_way
@pytest.mark.parametrize("location", [None, "/orders/1/"])
def test_h8_a_body_too_large_is_final_all_the_same(
    send: Any, after: Any, settings: Any, way: str, location: str | None
) -> None:
    """H8: the first answer is normal; a repeat is told so and never executes."""
    settings.IDEMPOTENCY = {"MAX_RESPONSE_BYTES": 10}
    headers = {"Location": location} if location else None
    after(answer_with(content=b"x" * 11, status=201, headers=headers))
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, first.content) == (201, b"x" * 11)
    assert retry.status_code == 409
    assert retry.json()["type"].endswith("/result-not-stored")
    assert retry.get("Location") == location
    assert Order.objects.count() == 1


def test_h8_a_body_of_just_the_limit_is_stored(send: Any, after: Any, settings: Any) -> None:
    """H8: the limit itself is allowed."""
    settings.IDEMPOTENCY = {"MAX_RESPONSE_BYTES": 10}
    after(answer_with(content=b"x" * 10))
    key = new_key()
    send("/apiview/", key=key)

    assert is_replay(send("/apiview/", key=key))


def test_h8_a_view_may_rebuild_the_answer(send: Any, settings: Any) -> None:
    """H8, R1: rebuild_response() answers in place of what is not stored."""
    settings.IDEMPOTENCY = {"MAX_RESPONSE_BYTES": 0}
    key = new_key()
    assert send("/rebuilding/", key=key).status_code == 201

    retry = send("/rebuilding/", key=key)

    assert (retry.status_code, retry.json()) == (200, {"orders": 1})
    assert is_replay(retry)
    assert Order.objects.count() == 1


def streaming(count: int = 3, content_type: str = "text/csv") -> Any:
    return lambda request, order: StreamingHttpResponse(
        (b"line\n" for _ in range(count)), status=201, content_type=content_type
    )


@sync_way
def test_h9_streams_are_buffered_stored_and_replayed(send: Any, after: Any, way: str) -> None:
    """H9: BUFFER_STREAMS=True: whole in the first answer and in the replay."""
    after(streaming())
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, body_of(first)) == (201, b"line\n" * 3)
    assert (retry.status_code, body_of(retry)) == (201, b"line\n" * 3)
    assert retry["Content-Type"] == "text/csv"
    assert is_replay(retry)
    assert Order.objects.count() == 1


@sync_way
@pytest.mark.parametrize(
    ("content_type", "configured"),
    [
        ("text/csv", {"MAX_RESPONSE_BYTES": 7}),
        ("text/csv", {"BUFFER_STREAMS": False}),
        ("text/event-stream", {}),
    ],
)
def test_h9_what_is_not_buffered_reaches_the_client_whole(
    send: Any, after: Any, settings: Any, way: str, content_type: str, configured: Any
) -> None:
    """H9: too long, not to be buffered, or events: the client has all; a repeat is as H8."""
    settings.IDEMPOTENCY = configured
    after(streaming(content_type=content_type))
    key = new_key()

    first = send(way, key=key)
    assert first.streaming
    assert body_of(first) == b"line\n" * 3
    retry = send(way, key=key)

    assert retry.status_code == 409
    assert retry.json()["type"].endswith("/result-not-stored")
    assert Order.objects.count() == 1


@sync_way
def test_h9_files_are_stored(send: Any, after: Any, tmp_path: Any, way: str) -> None:
    """H9: FileResponse, with its name and type."""
    file = tmp_path / "receipt.pdf"
    file.write_bytes(b"%PDF\x00")
    after(lambda request, order: FileResponse(file.open("rb"), as_attachment=True))
    key = new_key()
    first = send(way, key=key)
    assert body_of(first) == b"%PDF\x00"
    file.unlink()

    retry = send(way, key=key)

    assert body_of(retry) == b"%PDF\x00"
    assert retry["Content-Type"] == "application/pdf"
    assert retry["Content-Disposition"] == first["Content-Disposition"]
    assert Order.objects.count() == 1


def test_h10_another_accepted_type_gets_the_stored_representation(send: Any) -> None:
    """H10: JSON stored, XML asked: JSON with its own Content-Type."""
    key = new_key()
    first = send("/two-forms/", key=key, Accept="application/json")

    retry = send("/two-forms/", key=key, Accept="application/xml")

    assert is_replay(retry)
    assert (retry.content, retry["Content-Type"]) == (first.content, first["Content-Type"])
    assert retry["Content-Type"].startswith("application/json")


def test_h10_accept_can_be_a_part_of_the_request(send: Any, settings: Any) -> None:
    """H10: FINGERPRINT_HEADERS=["Accept"]: 422."""
    settings.IDEMPOTENCY = {"FINGERPRINT_HEADERS": ["Accept"]}
    key = new_key()
    send("/two-forms/", key=key, Accept="application/json")

    assert is_replay(send("/two-forms/", key=key, Accept="application/json"))
    assert send("/two-forms/", key=key, Accept="application/xml").status_code == 422
    assert Order.objects.count() == 1


def test_h11_a_replay_in_no_acceptable_type_is_406(send: Any) -> None:
    """H11: negotiation comes first; the record is untouched."""
    key = new_key()
    send("/two-forms/", key=key)
    before = IdempotencyKey.objects.values().get()

    assert send("/two-forms/", key=key, Accept="image/png").status_code == 406
    assert IdempotencyKey.objects.values().get() == before
    assert IdempotencyKey.objects.get().replay_count == 0
    assert is_replay(send("/two-forms/", key=key))


def test_h12_another_api_version_is_another_request(send: Any) -> None:
    """H12: version in a header, and in the URL: 422."""
    by_header, by_url = new_key(), new_key()
    send("/versioned/", key=by_header, Accept="application/json; version=1")
    send("/v1/orders/", key=by_url)

    other = send("/versioned/", key=by_header, Accept="application/json; version=2")
    same = send("/versioned/", key=by_header, Accept="application/json; version=1")

    assert other.status_code == 422
    assert is_replay(same)
    assert send("/v2/orders/", key=by_url).status_code == 422
    assert Order.objects.count() == 2


@every_way
def test_h13_another_language_gets_the_stored_one(send: Any, way: str) -> None:
    """H13: Accept-Language is no part of the request."""
    key = new_key()
    first = send(way, key=key, Accept_Language="en")

    retry = send(way, key=key, Accept_Language="de")

    assert is_replay(retry)
    assert retry.content == first.content


@every_way
def test_h16_the_views_cache_control_is_kept_on_the_first_answer(send: Any, way: str) -> None:
    """H16: we add nothing to a first answer."""
    keyed, free = send(way, key=new_key()), send(way)

    assert keyed.get("Cache-Control") == free.get("Cache-Control")


def test_h17_a_hidden_field_carries_the_key(send: Any) -> None:
    """H17: two submits, one row; the CSRF token is new with every page."""
    client, key = Client(), new_key()

    first = client.post("/form/", {"sku": "tea", "once": key, "csrfmiddlewaretoken": "a"})
    retry = client.post("/form/", {"sku": "tea", "once": key, "csrfmiddlewaretoken": "b"})
    urlencoded = client.post(
        "/form/", f"sku=tea&once={key}", content_type="application/x-www-form-urlencoded"
    )

    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry.content == first.content
    assert is_replay(retry)
    assert urlencoded.status_code == 422
    assert Order.objects.count() == 1


def test_h17_the_field_is_opt_in(send: Any) -> None:
    """H17: elsewhere a field of that name is only data."""
    client, key = Client(), new_key()

    for _ in range(2):
        assert client.post("/plain/", {"sku": "tea", "once": key}).status_code == 201

    assert Order.objects.count() == 2


@every_way
def test_h18_keys_nobody_chose_are_tolerated(send: Any, way: str) -> None:
    """H18: a browser attaches a quoted UUID to every POST, a new one each time."""
    for _ in range(2):
        assert send(way, key=f'"{new_key()}"').status_code == 201

    assert Order.objects.count() == 2


def test_h2_a_cookie_written_as_a_header_is_not_replayed(send: Any, after: Any) -> None:
    """H2: also where a view sets the header by hand instead of a cookie."""
    key = new_key()
    cookie = {"Set-Cookie": "sess=s3cret; HttpOnly", "X-Payment-Id": "p1"}
    after(lambda request, order: HttpResponse(b"ok", status=201, headers=cookie))

    first, retry = send("/plain/", key=key), send("/plain/", key=key)

    assert first["Set-Cookie"].startswith("sess=")
    assert "Set-Cookie" not in retry
    assert retry["X-Payment-Id"] == "p1"
    assert "s3cret" not in (IdempotencyKey.objects.get().response_headers or "")
