"""Security rows S21, S22: what strangers send reaches the admin, as text and for those who may.

Sent through the API; ``tests/admin`` looks at each page on its own, ``tests/browser`` in a
browser.
"""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from typing import Any

from django.contrib.admin.models import LogEntry
from django.http import JsonResponse
from django.test import Client

from django_idempotency.models import IdempotencyKey
from tests.admin.people import EXPORT, LIST, PAYLOAD, VIEW, detail, signed_in

EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>{{ 7|add:7 }}"
FORMULA = "\"=cmd|' /C calc'!A0\""  # a key in quotes
HARMLESS = {"http", "https", "mailto", ""}  # schemes
CANARY = "c4nary-of-a-card"


class Reader(HTMLParser):
    """The dangerous parts of a page: inline scripts, handlers, links with a scheme of their own."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.dangerous: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        values = dict(attributes)
        if tag == "script" and not str(values.get("src", "")).startswith("/"):
            self.dangerous.append(tag)
        for name, value in values.items():
            scheme = re.match(r"\s*([a-z]+):", value or "", re.IGNORECASE)
            if name.startswith("on") or name == "style":
                self.dangerous.append(f"{tag} {name}")
            if name in {"href", "src", "action"} and scheme and scheme[1].lower() not in HARMLESS:
                self.dangerous.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


def use(send: Any, after: Any, text: str, key: str) -> IdempotencyKey:
    """First request, replay and conflict, with ``text`` wherever a client can put some."""
    after(lambda request, order: JsonResponse({text: text}, status=201, headers={"X-Odd": "x"}))
    headers = {"User-Agent": text, "X-Request-ID": text}
    for body in ({text: text}, {text: text}, {text: text + "2"}):
        send.client.post(
            "/plain/?" + text,
            body,
            content_type="application/json",
            headers={**headers, "Idempotency-Key": key},
        )
    found = IdempotencyKey.objects.get(key=key.strip('"'))
    assert found.completed_at
    return found


def exported(client: Client, *keys: IdempotencyKey) -> Any:
    data = {"action": "export_keys", "_selected_action": [str(key.pk) for key in keys]}
    return client.post(LIST, data | {"confirmed": "yes", "bodies": "1"})


def test_s21_nothing_that_was_sent_is_more_than_text(send: Any, after: Any, settings: Any) -> None:
    """S21: in no page, no file, and no cell of a spreadsheet."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body", "REDACT": []}
    key = use(send, after, EVIL, f'"{EVIL[:25]}-of-sixteen"')
    computed = use(send, after, "=1+1", FORMULA)
    client = signed_in(superuser=True)

    shown = ""
    for url in (LIST, detail(key), f"{LIST}{key.pk}/history/", f"{LIST}overview/"):
        page = Reader(client.get(url).content.decode())
        assert page.dangerous == [], url
        shown += page.text
    assert EVIL in shown  # a control: it is there, as text
    assert "{{ 7|add:7 }}" in shown

    file = client.get(f"{LIST}{key.pk}/response/")
    assert file["Content-Disposition"].startswith("attachment")
    assert file["X-Content-Type-Options"] == "nosniff"
    lines = csv.DictReader(
        io.StringIO(exported(client, key, computed).content.decode(), newline="")
    )
    cells = [cell for line in lines for cell in line.values()]
    assert not [cell for cell in cells if cell.lstrip()[:1] in {"=", "+", "@"}]
    assert "'" + FORMULA.strip('"') in cells


def test_s21_the_reader_finds_what_is_dangerous() -> None:
    """Negative control."""
    found = Reader(f"<p>{EVIL}<a href=' JavaScript:x'></a><p style=x>").dangerous

    assert found == ["script", "img onerror", "a href= JavaScript:x", "p style"]


def test_s22_payloads_are_for_those_who_may_see_them(send: Any, after: Any, settings: Any) -> None:
    """S22: without ``view_payload`` no value is in a page, a search or a file; a look is logged."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    key = use(send, after, "amount", "a-key-of-sixteen-characters")
    IdempotencyKey.objects.update(response_body=f'{{"amount":"{CANARY}"}}'.encode())

    def seen(client: Client) -> str:
        pages = ("", f"{key.pk}/change/", f"{key.pk}/response/", f"{key.pk}/history/", "overview/")
        answers = [client.get(f"{LIST}{name}") for name in pages]
        answers += [exported(client, key), client.get(LIST, {"response_body__contains": "c4n"})]
        return "".join(answer.content.decode() for answer in answers)

    assert CANARY not in seen(signed_in(VIEW, EXPORT))
    assert not LogEntry.objects.exists()
    assert CANARY in seen(signed_in(VIEW, EXPORT, PAYLOAD))  # a control
    messages = set(LogEntry.objects.values_list("change_message", flat=True))
    assert messages == {
        *("Viewed the stored payload.", "Downloaded the stored response."),
        "Exported with the stored payload.",
    }


def test_s22_nobody_edits_what_would_be_replayed(send: Any, after: Any) -> None:
    """S22: a superuser neither; what a form sends is ignored."""
    key = use(send, after, "amount", "a-key-of-sixteen-characters")
    before = IdempotencyKey.objects.values().get()
    client = signed_in(superuser=True)

    for url in (detail(key), f"{LIST}add/", f"{LIST}{key.pk}/delete/"):
        answer = client.post(
            url, {"response_body": "edited", "response_status": "200", "post": "yes"}
        )
        assert answer.status_code == 403, url
    assert IdempotencyKey.objects.values().get() == before
