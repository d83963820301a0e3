"""Who sees what: without view_payload no value of a body, header or field leaves the table."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.admin.people import EXPORT, FORGET, LIST, PAYLOAD, VIEW, detail, page, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db

# Each stands where it must not leave from: response, header, request, conflicting request.
CANARIES = ("c4nary-body", "c4nary-header", "c4nary-request", "c4nary-other")
DIGESTS = ("d1gest", "d2gest")


@pytest.fixture
def key() -> IdempotencyKey:
    body, header, mine, theirs = CANARIES
    key = IdempotencyKeyFactory(
        completed=True,
        request_record=json.dumps({"fields": {"amount": DIGESTS[0]}, "body": {"amount": mine}}),
        response_headers=json.dumps([["Content-Type", "application/json"], ["X-Odd", header]]),
        response_body=json.dumps({"amount": body}).encode(),
    )
    KeyEventFactory(
        key=key,
        kind="conflict",
        differences='{"amount": "changed"}',
        request_record=json.dumps({"fields": {"amount": DIGESTS[1]}, "body": {"amount": theirs}}),
    )
    KeyTally.objects.create(key=key, conflict_count=1)
    assert isinstance(key, IdempotencyKey)
    return key


def everything(client: Client, key: IdempotencyKey) -> str:
    """All that a client can get to see, forms sent and links followed."""
    chosen = {"_selected_action": str(key.pk)}
    export = chosen | {"action": "export_keys"}
    answers = [
        client.get(LIST),
        client.get(detail(key)),
        client.get(f"{LIST}{key.pk}/response/"),
        client.get(f"{LIST}{key.pk}/history/"),
        client.get(f"{LIST}overview/"),
        client.post(LIST, chosen | {"action": "forget_keys"}),
        client.post(LIST, export),
        client.post(LIST, export | {"confirmed": "yes"}),
        client.post(LIST, export | {"confirmed": "yes", "bodies": "1"}),
        *(client.get(LIST, {"q": canary}) for canary in CANARIES),
    ]
    seen = "".join(answer.content.decode() for answer in answers)
    for canary in CANARIES:  # a search repeats its term
        seen = seen.replace(f'value="{canary}"', "").replace(f"q={canary}", "")
    return seen


def test_without_the_permission_no_value_leaves_the_table(key: IdempotencyKey) -> None:
    """Not in pages, files, diffs, history or search; nor the digests, for anyone."""
    seen = everything(signed_in(VIEW, FORGET, EXPORT), key)

    for hidden in (*CANARIES, *DIGESTS):
        assert hidden not in seen, hidden
    assert "<strong>amount</strong>" in seen  # which field differed is no value


def test_with_the_permission_values_are_shown(key: IdempotencyKey) -> None:
    """Where they belong: this proves the test above."""
    seen = everything(signed_in(VIEW, FORGET, EXPORT, PAYLOAD), key)

    for canary in CANARIES:
        assert canary in seen, canary
    for digest in DIGESTS:
        assert digest not in seen


def test_searching_for_a_value_finds_nothing(key: IdempotencyKey) -> None:
    """Whether a search has a result would tell as much as the value itself."""
    for client in (signed_in(VIEW), signed_in(VIEW, PAYLOAD)):
        for canary in CANARIES:
            assert not client.get(LIST, {"q": canary}).context_data["cl"].result_list


def test_each_thing_needs_its_permission(key: IdempotencyKey) -> None:
    """And the permission to view keys besides."""
    export = {"action": "export_keys", "_selected_action": str(key.pk), "confirmed": "yes"}
    forget = export | {"action": "forget_keys"}

    for client in (Client(), signed_in(PAYLOAD, FORGET, EXPORT), signed_in()):
        for url in (LIST, detail(key), f"{LIST}{key.pk}/response/", f"{LIST}{key.pk}/history/"):
            assert client.get(url).status_code in {302, 403}
        assert client.post(LIST, export).status_code in {302, 403}
        assert client.post(LIST, forget).status_code in {302, 403}
    client = signed_in(VIEW, FORGET, EXPORT)
    assert client.get(f"{LIST}{key.pk}/response/").status_code == 403
    assert client.post(LIST, export | {"bodies": "1"}).status_code == 403
    assert signed_in(VIEW, FORGET).post(LIST, export)["Content-Type"].startswith("text/html")
    signed_in(VIEW, EXPORT).post(LIST, forget)
    assert IdempotencyKey.objects.get() == key


def test_what_may_not_be_done_is_not_offered(key: IdempotencyKey) -> None:
    """Neither in the list nor on the page."""
    viewer, other = signed_in(VIEW), signed_in(VIEW, FORGET, EXPORT)

    for url in (LIST, detail(key)):
        assert "forget_keys" not in page(viewer, url)
        assert "export_keys" not in page(viewer, url)
        assert "forget_keys" in page(other, url)
        assert "export_keys" in page(other, url)


def test_looking_at_a_payload_is_logged(key: IdempotencyKey) -> None:
    """Who, which key, when; looking at the rest is not."""
    page(signed_in(VIEW), detail(key))
    assert not LogEntry.objects.exists()
    client = signed_in(VIEW, PAYLOAD)

    page(client, detail(key))
    client.get(f"{LIST}{key.pk}/response/")

    logged = LogEntry.objects.order_by("pk").values_list("object_id", "action_flag", "user_id")
    user = int(client.session["_auth_user_id"])
    assert list(logged) == [(str(key.pk), CHANGE, user)] * 2
    history = page(client, f"{LIST}{key.pk}/history/")
    assert "Viewed the stored payload." in history
    assert "Downloaded the stored response." in history


def test_a_key_without_payload_leaves_no_log_entry() -> None:
    """There was nothing to see."""
    page(signed_in(VIEW, PAYLOAD), detail(IdempotencyKeyFactory()))

    assert not LogEntry.objects.exists()


def test_nobody_adds_changes_or_deletes_a_key(key: IdempotencyKey) -> None:
    """Not even a superuser, not by URL, not by a form of Django's."""
    client = signed_in(superuser=True)
    before = IdempotencyKey.objects.values().get()

    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}add/", {"key": "x"}).status_code == 403
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client, method)(detail(key)).status_code == 403
    assert client.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    deletion = {"action": "delete_selected", "_selected_action": str(key.pk), "post": "yes"}
    client.post(LIST, deletion)
    client.post(LIST, {"form-0-key": "x", "_save": "Save", "form-TOTAL_FORMS": "1"})
    assert IdempotencyKey.objects.values().get() == before


def test_a_download_is_a_file_that_no_browser_opens(key: IdempotencyKey) -> None:
    """An attachment of no type, not sniffed, whatever the stored type says."""
    key.response_headers = '[["Content-Type", "text/html"]]'
    key.response_body = b"<script>alert(1)</script>"
    key.save()

    response = signed_in(VIEW, PAYLOAD).get(f"{LIST}{key.pk}/response/")

    assert response.content == b"<script>alert(1)</script>"
    assert response["Content-Type"] == "application/octet-stream"
    assert re.fullmatch(
        r'attachment; filename="response-[0-9a-f]{12}\.bin"',
        response.headers["Content-Disposition"],
    )
    assert response["X-Content-Type-Options"] == "nosniff"


def test_pages_are_not_cached(key: IdempotencyKey) -> None:
    """By nobody, not on disk."""
    client = signed_in(VIEW, PAYLOAD)

    for url in (LIST, detail(key), f"{LIST}{key.pk}/response/"):
        assert "no-store" in client.get(url)["Cache-Control"]


@pytest.mark.parametrize("url", ["", "page"])
def test_pages_hold_no_inline_style_or_script(key: IdempotencyKey, url: str) -> None:
    """default-src 'self' holds: every script and style is a file of this site."""
    client = signed_in(superuser=True)
    html = page(client, detail(key) if url else LIST)

    assert not re.findall(r"<script(?![^>]* src=\"/)", html)
    assert "<style" not in html
    assert not re.findall(r"\sstyle=", html)
    assert not re.findall(r"\son[a-z]+=\"", html)
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", html)


def test_permissions_are_the_models() -> None:
    """Nothing else is to be granted."""
    client = signed_in(VIEW, PAYLOAD, FORGET, EXPORT)
    granted: Any = IdempotencyKey._meta.permissions

    assert client.session
    assert {name for name, _label in granted} == {PAYLOAD, FORGET, EXPORT}
    assert IdempotencyKey._meta.default_permissions == ("view",)
