"""Rows M of the specification, for bodies that Django or a parser reads in its own way."""

from __future__ import annotations

import tracemalloc
from contextlib import nullcontext
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.test import RequestFactory
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.body import release
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.orders.views import OrderAPIView, described, drf_answer, place, plain_answer
from tests.sender import new_key

from .test_mismatch import (
    FORM,
    OTHER_PARTS,
    PARTS,
    Part,
    assert_mismatch,
    assert_replay,
    multipart,
    send_parts,
)


@method_decorator([csrf_exempt, idempotent], name="dispatch")
class Patched(View):
    """Django leaves request.POST empty here, so the view parses the body itself."""

    exact = False

    def patch(self, request: HttpRequest) -> HttpResponse:
        stream = request if self.exact else BytesIO(request.body)
        parser = DjangoMultiPartParser(request.META, stream, request.upload_handlers)
        post, files = parser.parse()
        order, _ = place(request, {"sku": post["sku"]})
        sizes = {name: file.size for name, file in files.items()}
        for file in files.values():
            file.close()
        return JsonResponse(described(order) | {"files": sizes}, status=201)

    put = delete = patch


@csrf_exempt
@idempotent(fingerprint_exclude=["invoice"])
def plain_excluding(request: Any) -> HttpResponse:
    return plain_answer(request)


class Excluding(OrderAPIView):
    idempotency_fingerprint_exclude = ["invoice"]


class NestedParser(MultiPartParser):
    """As parsers of nested forms do it: a dict, files among the data."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        parsed = super().parse(*args, **kwargs)
        data = {**parsed.data.dict(), "lines": [{"qty": 1.5}], "own": parsed.files.dict()}
        return DataAndFiles(data, parsed.files)


class ObjectParser(BaseParser):
    media_type = "multipart/form-data"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        file = SimpleUploadedFile("whole", stream.read().replace(b"another", b"first"))
        return {(1, "sku"): Decimal(1), "whole": [file]}  # no JSON can say this


class Nested(IdempotentMixin, APIView):
    parser_classes = [NestedParser]

    def post(self, request: Any) -> Any:
        return drf_answer(request)


class Objects(IdempotentMixin, APIView):
    parser_classes = [ObjectParser]

    def post(self, request: Any) -> Any:
        place(request, {"sku": "tea"})
        return JsonResponse({}, status=201)


def reads_the_stream(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        request.read()
        return get_response(request)

    return middleware


def reads_the_stream_and_asks_for_a_token(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        request.read()
        request.POST.get("csrfmiddlewaretoken")  # empty, and marked as parsed
        return get_response(request)

    return middleware


def parses_patched_forms(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.method = "POST"
        request._load_post_and_files()  # as django-ninja's middleware does it
        request.method = "PATCH"
        return get_response(request)

    return middleware


urlpatterns = [
    path("patched/", Patched.as_view()),
    path("patched-stream/", Patched.as_view(exact=True)),
    path("excluding-files/", Excluding.as_view()),
    path("plain-excluding-files/", plain_excluding),
    path("nested/", Nested.as_view()),
    path("objects/", Objects.as_view()),
    path("", include("tests.conformance.views_kfm")),
]
pytestmark = pytest.mark.urls(__name__)
LARGE: Part = ("photo", "b.jpg", "image/jpeg", b"\xff\xd8" * 1_500_000)
patched_way = pytest.mark.parametrize("way", ["/patched/", "/patched-stream/"])


def patch(send: Any, way: str, key: str, parts: list[Part], boundary: str = "first") -> Any:
    body, kind = multipart(parts, boundary)
    return send(way, body, key=key, method="PATCH", content_type=kind)


# -- multipart that Django does not parse


@patched_way
@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_m9_another_multipart_body_is_refused_whatever_the_method(
    send: Any, settings: Any, way: str, method: str
) -> None:
    """M9: not only with POST, for which alone Django parses it; the view reads it all the same."""
    settings.IDEMPOTENCY = {"METHODS": ["POST", "PUT", "PATCH", "DELETE"]}
    key = new_key()
    (body, kind), (other, _) = (multipart([("sku", None, None, v)], "b") for v in (b"a", b"b"))
    first = send(way, body, key=key, method=method, content_type=kind)
    assert first.json()["sku"] == "a"

    assert_replay(send(way, body, key=key, method=method, content_type=kind), first)
    assert_mismatch(send(way, other, key=key, method=method, content_type=kind))


@patched_way
@pytest.mark.parametrize("what", OTHER_PARTS)
def test_m9_another_file_in_a_patch_is_refused(send: Any, way: str, what: str) -> None:
    """M9: the parts count as with POST."""
    key = new_key()
    assert patch(send, way, key, PARTS).status_code == 201

    assert_mismatch(patch(send, way, key, [*PARTS[:2], OTHER_PARTS[what]], "another"))


def test_m8_a_new_boundary_in_a_patch_is_a_retry(send: Any) -> None:
    """M8: also where the file is larger than what Django keeps in memory."""
    key = new_key()
    first = patch(send, "/patched-stream/", key, [*PARTS, LARGE])
    assert first.json()["files"] == {"invoice": 300, "photo": 3_000_000}

    assert_replay(patch(send, "/patched-stream/", key, [*PARTS, LARGE], "another"), first)


@pytest.mark.parametrize("way", ["/plain/", "/plain-excluding-files/"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (multipart([("sku", None, None, b"tea\xff")], "b")[0],
         multipart([("sku", None, None, b"tea\xfe")], "b")[0]),
        (b"broken", b"broken!"),
    ],
)  # fmt: skip
def test_m9_a_patch_counts_by_what_no_parser_may_understand(
    send: Any, way: str, before: bytes, after: bytes
) -> None:
    """M9: a view of one's own may read bytes that are not UTF-8, and what is no multipart."""
    key, kind = new_key(), "multipart/form-data; boundary=b"
    first = send(way, before, key=key, method="PATCH", content_type=kind)

    assert_replay(send(way, before, key=key, method="PATCH", content_type=kind), first)
    assert_mismatch(send(way, after, key=key, method="PATCH", content_type=kind))


def test_m9_a_patch_counts_by_parts_without_a_name(send: Any) -> None:
    """M9: Django's parser would leave them out."""
    key, kind = new_key(), "multipart/form-data; boundary=b"
    first = send("/plain/", b"--b\r\nx", key=key, method="PATCH", content_type=kind)

    assert first.status_code == 201
    assert_mismatch(send("/plain/", b"--b\r\ny", key=key, method="PATCH", content_type=kind))


def test_m13_a_file_of_a_patch_may_be_excluded(send: Any) -> None:
    """M13: although Django parses none of it."""
    key, way = new_key(), "/plain-excluding-files/"
    first = patch(send, way, key, PARTS)

    assert_replay(patch(send, way, key, PARTS[:2], "another"), first)
    assert_mismatch(patch(send, way, key, PARTS[1:]))


def test_m9_a_patch_that_a_middleware_has_parsed_counts_by_its_parts(
    send: Any, settings: Any
) -> None:
    """M8, M9: what it put into POST and FILES is what the view reads."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.parses_patched_forms"]
    key = new_key()
    first = patch(send, "/plain/", key, PARTS)

    assert_replay(patch(send, "/plain/", key, PARTS, "another"), first)
    assert_mismatch(patch(send, "/plain/", key, [("sku", None, None, b"x"), *PARTS[1:]]))


def test_m9_a_body_without_a_length_is_compared(transactional_db: None) -> None:
    """M9: Django parses none of it; an ASGI view may still read all."""
    key, seen = new_key(), []

    @idempotent
    def view(request: Any) -> HttpResponse:
        seen.append(request.read())
        return HttpResponse(status=201)

    def answer(sku: bytes) -> int:
        body, kind = multipart([("sku", None, None, sku)], "b")
        headers = {"Idempotency-Key": key}
        request = RequestFactory().generic("POST", "/", body, kind, headers=headers)
        request._stream = BytesIO(body)  # type: ignore[attr-defined]
        del request.META["CONTENT_LENGTH"]
        return view(request).status_code

    assert [answer(b"tea"), answer(b"tea"), answer(b"mate")] == [201, 201, 422]
    assert [b"tea" in body for body in seen] == [True]


@pytest.mark.parametrize("way", ["/plain/", "/class/", "/apiview/"])
@pytest.mark.parametrize(
    "middleware", ["reads_the_stream", "reads_the_stream_and_asks_for_a_token"]
)
def test_m9_multipart_that_a_middleware_has_read_is_an_error(
    send: Any, settings: Any, caplog: Any, way: str, middleware: str
) -> None:
    """M9: POST is empty then, and each body would be the same."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{middleware}"]

    assert send_parts(send, way, new_key(), PARTS).status_code == 500

    assert "Read request.body there" in caplog.text
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


def test_m8_an_empty_form_that_a_middleware_has_parsed_is_no_error(
    send: Any, settings: Any
) -> None:
    """M8: it is empty, and not unread."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.conformance.test_mismatch_bodies.asks"]
    key = new_key()
    first = send_parts(send, "/plain/", key, [])

    assert_replay(send_parts(send, "/plain/", key, [], "another"), first)


def test_m9_a_request_made_by_hand_has_no_stream(transactional_db: None) -> None:
    """M9: nothing to compare, and nothing to fail about."""
    request = HttpRequest()
    request.method, request.path = "PATCH", "/"
    request.META["CONTENT_TYPE"] = "multipart/form-data; boundary=b"
    request.META["HTTP_IDEMPOTENCY_KEY"] = new_key()

    @idempotent
    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=201)

    assert view(request).status_code == 201


def asks(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        request.POST.get("csrfmiddlewaretoken")
        return get_response(request)

    return middleware


# -- texts that are not UTF-8


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=latin-1", "text/plain"]
)
@pytest.mark.parametrize(
    ("before", "after"), [("?q=%ff", "?q=%fe"), ("?q=%ff", "?q=%EF%BF%BD"), ("?%ff", "?%fe")]
)
def test_m4_queries_that_are_not_utf8_are_compared(
    send: Any, way: str, kind: str, before: str, after: str
) -> None:
    """M4: two bytes that UTF-8 does not know are two bytes."""
    if way == "/apiview/" and kind == "text/plain":
        pytest.skip("no parser")
    key = new_key()
    assert send(way + before, key=key, content_type=kind).status_code == 201

    assert send(way + before, key=key, content_type=kind)["Idempotent-Replayed"] == "true"
    assert_mismatch(send(way + after, key=key, content_type=kind))


def test_m4_unescaped_bytes_in_a_query_are_compared(transactional_db: None) -> None:
    """M4: a raw E9 is no U+00E9 in another spelling: servers hand on bytes as Latin-1."""
    key = new_key()
    view = idempotent(lambda request: HttpResponse(status=201))

    def answer(query: str) -> int:
        headers = {"Idempotency-Key": key}
        request = RequestFactory().post("/", headers=headers)
        request.META["QUERY_STRING"] = query
        return view(request).status_code

    queries = ["\u00c3\u00a9", "\u00c3\u00a9", "%C3%83%C2%A9", "=%C3%83%C2%A9"]
    assert [answer(query) for query in queries] == [201, 201, 422, 422]


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (FORM, "sku=%ff", "sku=%fe"),
        (FORM, "%ff=tea", "%fe=tea"),
        (FORM, "sku=%ff", "sku=%EF%BF%BD"),
        (FORM + "; charset=latin-1", "sku=%ff", "sku=%fe"),
        ("application/json; charset=utf-7", '{"sku":"+AGE-"}', r'{"sku":"\u002BAGE-"}'),
        ("application/json; charset=latin-1", '{"sku":"é"}', r'{"sku":"\u00e9"}'),
    ],
)
def test_m10_bodies_that_are_not_utf8_are_compared(
    send: Any, way: str, kind: str, before: str, after: str
) -> None:
    """M7, M10: they count by their bytes, since a view reads them by their charset."""
    key = new_key()
    first = send(way, before, key=key, content_type=kind)
    if first.status_code != 201:
        pytest.skip("refused without a key, too")

    assert_replay(send(way, before, key=key, content_type=kind), first)
    assert_mismatch(send(way, after, key=key, content_type=kind))


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_m7_a_charset_of_the_site_counts_as_one_of_the_request(
    send: Any, settings: Any, way: str
) -> None:
    """M7: DEFAULT_CHARSET is what REST framework and request.GET decode by."""
    settings.DEFAULT_CHARSET = "latin-1"
    key, before, after = new_key(), '{"sku":"Ã©"}', r'{"sku":"\u00e9"}'
    first = send(way, before, key=key)

    assert_replay(send(way, before, key=key), first)
    assert_mismatch(send(way, after, key=key))


# -- files, and parsers of one's own


@pytest.mark.parametrize("way", ["/excluding-files/", "/plain-excluding-files/"])
def test_m13_a_file_may_be_excluded(send: Any, way: str) -> None:
    """M13: by the name of its part; every other part counts."""
    key = new_key()
    first = send_parts(send, way, key, PARTS)

    other: Part = ("invoice", "b.pdf", "application/pdf", b"another")
    assert_replay(send_parts(send, way, key, [*PARTS[:2], other]), first)
    assert_replay(send_parts(send, way, key, PARTS[:2]), first)
    assert_mismatch(send_parts(send, way, key, [*PARTS, LARGE]))


@pytest.mark.parametrize("what", OTHER_PARTS)
def test_m9_a_parser_may_return_a_dict(send: Any, what: str) -> None:
    """M8, M9: its content is compared, with files by their bytes wherever they are."""
    key = new_key()
    first = send_parts(send, "/nested/", key, PARTS)
    assert_replay(send_parts(send, "/nested/", key, PARTS, "another"), first)

    assert_mismatch(send_parts(send, "/nested/", key, [*PARTS[:2], OTHER_PARTS[what]]))


def test_m9_a_parser_may_return_what_json_cannot_say(send: Any) -> None:
    """M9: compared as Python shows it, files by their bytes."""
    key = new_key()
    first = send_parts(send, "/objects/", key, PARTS)

    assert_replay(send_parts(send, "/objects/", key, PARTS, "another"), first)
    assert_mismatch(send_parts(send, "/objects/", key, PARTS[1:]))


# -- bodies that are too large


@pytest.mark.parametrize("kind", [FORM, "application/json"])
@pytest.mark.parametrize("length", ["true", "missing", "false"])
def test_m11_what_is_too_large_is_never_held_in_memory(
    transactional_db: None, kind: str, length: str
) -> None:
    """M11: a body that is too large costs a disk and no memory, whatever its length says.

    Django refuses it where it is told how long it is; not each version does where it is not.
    """
    body = b'"a=' + b"x" * 40_000_000 + b'"'
    headers = {"Idempotency-Key": new_key()}
    request = RequestFactory().generic("POST", "/", body, kind, headers=headers)
    request._stream = BytesIO(body)  # type: ignore[attr-defined]
    request.META["CONTENT_LENGTH"] = {"true": str(len(body)), "missing": "", "false": "3"}[length]
    if length == "false":
        request.META["CONTENT_LENGTH"] = "100000"  # less than it is, and not small

    @idempotent
    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.body if length == "true" else b"", status=201)

    refused = pytest.raises(RequestDataTooBig) if length == "true" else nullcontext()
    tracemalloc.start()
    try:
        with refused:
            view(request).close()  # as a server does
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    assert IdempotencyKey.objects.completed().exists() == (length != "true")


@pytest.mark.parametrize("kind", [FORM, "application/json", "application/vnd.api+json"])
def test_m11_what_a_view_reads_from_the_stream_is_compared(
    transactional_db: None, kind: str
) -> None:
    """M11: past the limit a view may still read the stream; one other byte is refused."""
    key, body, seen = new_key(), b'"a=' + b"x" * 20_000_000 + b'"', []

    @idempotent
    def view(request: Any) -> HttpResponse:
        seen.append(request.read())
        return HttpResponse(status=201)

    def answer(body: bytes) -> int:
        headers = {"Idempotency-Key": key}
        request = RequestFactory().generic("POST", "/", body, kind, headers=headers)
        response = view(request)
        release(request)
        return response.status_code

    assert [answer(body), answer(body), answer(body + b" ")] == [201, 201, 422]
    assert seen == [body]
