"""Rows M of the specification, for bodies that Django or a parser reads in its own way."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from tests.orders.views import OrderAPIView, described, drf_answer, place, plain_answer
from tests.sender import new_key

from .test_mismatch import (
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
