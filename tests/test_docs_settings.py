"""What the settings page says of bodies that are kept is so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path

from django_idempotency import idempotent
from django_idempotency.models import IdempotencyKey
from tests.documents import DOCS, example, run, serve
from tests.sender import Sender, new_key

REDACTED_BODIES = [  # the rows of the table, in its order; () = the hook is not called
    (
        "application/json",
        b'{"sku": "tea", "qty": 2, "price": 1.50}',
        ({"sku": "tea", "qty": 2, "price": 1.5},),
    ),
    ("application/json", b'["tea"]', (["tea"],)),
    ("application/json", b'"tea"', ("tea",)),
    (
        "application/x-www-form-urlencoded",
        b"sku=tea&tag=a&tag=b&csrfmiddlewaretoken=x",
        ({"sku": "tea", "tag": "b"},),
    ),
    (
        "multipart/form-data; boundary=X",
        b'--X\r\nContent-Disposition: form-data; name="sku"\r\n\r\ntea\r\n'
        b'--X\r\nContent-Disposition: form-data; name="photo"; filename="t.png"\r\n\r\n'
        b"PNG\r\n--X--",
        ({"sku": "tea", "photo": "[file]"},),
    ),
    ("application/octet-stream", b"\x00", ()),
    ("text/plain", b"tea", ()),
    ("application/json", b"", ()),
    ("application/json", b"{tea", ()),
    ("application/json", b'{"sku": "tea", "sku": "coffee"}', ()),
    ("application/json", b"null", ()),
    ("application/json", b'{"price": 1e5, "sent_at": 1}', ({"price": "1e5"},)),
]


@pytest.mark.parametrize(("kind", "body", "given"), REDACTED_BODIES)
def test_what_redact_request_gets_of_a_body(
    send: Sender, settings: Any, kind: str, body: bytes, given: tuple[Any, ...]
) -> None:
    """As the table of the settings page has it, in each attempt."""
    seen: list[Any] = []

    def keep(data: Any) -> Any:
        seen.append(data)
        return data

    @idempotent(redact_request=keep, fingerprint_exclude=["sent_at"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=204)

    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    serve(settings, path("notes/", view))
    key = new_key()
    for _ in range(2):
        assert send("/notes/", body, content_type=kind, key=key).status_code == 204

    assert seen == [*given, *given]
    assert [type(value) for value in seen] == [type(value) for value in (*given, *given)]


def test_the_hook_of_the_settings_page_keeps_a_length(send: Sender, settings: Any) -> None:
    """And hides what REDACT hides; of a list it keeps nothing."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    view = run(example(DOCS / "settings.md", "redact_request"))["NoteView"]
    serve(settings, path("notes/", view.as_view()))

    kept = []
    for body in ({"note": "not to be kept", "order": {"password": "x"}}, ["not to be kept"]):
        key = new_key()
        assert send("/notes/", body, key=key).status_code == 204
        kept.append(json.loads(IdempotencyKey.objects.get(key=key).request_record)["body"])

    assert kept == [{"note": "14 characters", "order": {"password": "[redacted]"}}, None]


def test_with_a_fingerprint_of_its_own_no_body_is_kept(send: Sender, settings: Any) -> None:
    """So there is nothing to redact."""

    def never(data: Any) -> Any:
        raise AssertionError

    @idempotent(redact_request=never, fingerprint=lambda request: "the same")
    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=204)

    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    serve(settings, path("notes/", view))

    assert send("/notes/", key=new_key()).status_code == 204
    assert "body" not in json.loads(IdempotencyKey.objects.get().request_record)
