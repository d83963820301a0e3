"""Rows as no request of ours leaves them: every page shows what it can, and none fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.admin.people import LIST, detail, page, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory
from tests.sender import Sender, new_key

pytestmark = pytest.mark.django_db

DEEP = "[" * 5_000 + "]" * 5_000
TEXTS = (
    "",
    '[["\\ud800", "\\udc00"]]',
    "{",
    "null",
    "[]",
    "5",
    '"x"',
    "[[]]",
    '[["a"]]',
    '[["a", {}]]',
    "{}",
    DEEP,
)
RECORDS = (
    *TEXTS,
    '{"fields": []}',
    '{"fields": {"@content-type": {}, "": "aa"}}',
    '{"fields": {"a": "aa"}, "body": null}',
    '{"fields": {"\\ud800": "aa"}, "body": {"\\ud800": "\\udfff"}}',
    '{"fields": {"a": "aa"}, "body": [1, {"a": [[]]}, "\\u0000\\ud800"]}',
    '{"fields": {"a": "aa"}, "body": {"a": 1, "a": 2, "": ""}}',
    f'{{"fields": {{}}, "body": {DEEP}}}',
)
DIFFERENCES = (
    *TEXTS,
    '{"a": []}',
    '{"a": "odd"}',
    '{"": "changed", "@odd": "added", "\\ud800": "removed"}',
)
BODIES: tuple[tuple[bytes | None, str], ...] = (
    (None, "application/json"),
    (b"", "application/json"),
    (b"\xff\xfe\x00", "application/json"),
    (b"{", "application/json; charset=\xff"),
    (b"<script>", 'text/html; charset="'),
    (b"\\ud800", "text/plain; charset=unicode_escape"),
    (b"abc", "text/plain; charset=zlib"),
    (b"abc", "text/plain; charset=undefined"),
    (b"abc", "text/plain; charset=idna"),
    (b"+AGE-", "text/plain; charset=utf-7"),
    (b"abc", "text/plain; charset*=utf-8''latin-1; charset=a\x01b"),
    (b"\xd8\x00", "text/plain; charset=utf-16-be"),
    (DEEP.encode(), "application/json"),
    (b'"\\ud800"', "application/json"),
    (b"%PDF", "\r\nX-Odd: 1"),
)


@pytest.fixture
def odd() -> list[IdempotencyKey]:
    """Each oddity in a key of its own."""
    rows: list[dict[str, Any]] = [
        *({"request_record": text} for text in RECORDS),
        *({"response_headers": text} for text in TEXTS),
        *(
            {"response_body": body, "response_headers": json.dumps([["Content-Type", kind]])}
            for body, kind in BODIES
        ),
        {"response_status": 100, "duration_ms": 2**31 - 1},
        {"response_status": 599, "attempts": 2**31 - 1},
        {"method": "", "path": "", "route": "", "user_agent": "", "remote_addr": None},
        {"method": "<b>", "path": "javascript:alert(1)", "remote_addr": "::1"},
        {"created_at": datetime(1971, 1, 1, tzinfo=UTC), "completed_at": timezone.now()},
        {"created_at": timezone.now() + timedelta(days=400)},
        {"completed_at": datetime(1971, 1, 1, tzinfo=UTC)},
        *({"scope": scope} for scope in ("user:", "user:-1", "user:1 ", f"user:{'9' * 200}")),
    ]
    keys = [IdempotencyKeyFactory(completed=True, **row) for row in rows]
    for number, text in enumerate(DIFFERENCES):
        KeyEventFactory(
            key=keys[number],
            kind="conflict",
            status=None,
            differences=text,
            request_record=RECORDS[number],
            at=timezone.now() - timedelta(days=number),
        )
        KeyTally.objects.create(key=keys[number], conflict_count=2**31 - 1)
    KeyTally.objects.create(key=keys[-1], failure_count=3, given_way_count=9)
    return keys


def test_every_page_of_an_odd_row_is_shown(odd: list[IdempotencyKey]) -> None:
    """And its download."""
    client = signed_in(superuser=True)

    for key in odd:
        assert key.key in page(client, detail(key))
        answer = client.get(f"{LIST}{key.pk}/response/")
        assert answer.status_code == (404 if key.response_body is None else 200)


def test_lists_and_figures_of_odd_rows_are_shown(odd: list[IdempotencyKey]) -> None:
    """All of them on one page, in every order, and in an export with bodies."""
    client = signed_in(superuser=True)

    page(client, f"{LIST}{odd[0].pk}/history/")
    for order in ("", "1", "-6", "7"):
        assert odd[0].key in page(client, LIST, {"all": "", "o": order})
    newest = KeyEventFactory(key=odd[0], kind="conflict", at=timezone.now() + timedelta(seconds=1))
    for text in DIFFERENCES:
        KeyEvent.objects.filter(pk=newest.pk).update(differences=text)
        assert odd[0].key in page(client, f"{LIST}overview/")
    asked = {"action": "export_keys", "confirmed": "yes", "bodies": "1"}
    answer = client.post(LIST, asked | {"_selected_action": [str(key.pk) for key in odd]})
    assert answer.status_code == 200
    assert b"".join(answer.streaming_content if answer.streaming else [answer.content])


def test_half_a_character_can_be_sent_by_anyone(send: Sender, settings: Any) -> None:
    """JSON can spell it, UTF-8 cannot: neither the page nor the line to repeat it fails."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": "body"}
    name = new_key()
    for body in ('{"sku": "tea", "\\ud800": "\\udfff"}', '{"sku": "milk", "\\ud800": "x"}'):
        send("/apiview/", body, key=name)
    key = IdempotencyKey.objects.get()
    assert key.conflict_count == 1

    html = page(signed_in(superuser=True), detail(key))

    assert "&quot;\\ud800&quot;: &quot;\\udfff&quot;" in html
    assert "<strong>\N{REPLACEMENT CHARACTER}</strong>" in html
