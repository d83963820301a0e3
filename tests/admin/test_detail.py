"""The page of a key tells its story, and shows what is stored as text."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.admin.people import LIST, PAYLOAD, VIEW, detail, page, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db


def told(key: IdempotencyKey, *permissions: str) -> str:
    """The page's text, as a browser would show it."""
    return unescape(page(signed_in(VIEW, *permissions), detail(key))).replace("\xa0", " ")


@pytest.fixture
def key() -> IdempotencyKey:
    """Three hours old: refused once while it ran, replayed twice, reused once."""
    seen = timezone.now() - timedelta(hours=3)
    record = {"fields": {"@method": "aa", "amount": "bb", "lines[0]": "cc", "lines[1]": "dd"}}
    key = IdempotencyKeyFactory(
        completed=True,
        created_at=seen,
        completed_at=seen + timedelta(milliseconds=1840),
        duration_ms=1840,
        user_agent="shop/2.1",
        remote_addr="192.0.2.7",
        request_id="req-first",
        request_record=json.dumps(record),
    )
    for kind, after, status in (
        ("in_flight", timedelta(milliseconds=900), 409),
        ("replayed", timedelta(seconds=2.4), 201),
        ("conflict", timedelta(minutes=21), 422),
        ("replayed", timedelta(hours=2), 201),
    ):
        different = kind == "conflict"
        KeyEventFactory(
            key=key,
            kind=kind,
            at=seen + after,
            status=status,
            request_id=f"req-{kind}",
            differences='{"amount": "changed", "@query": "added"}' if different else "",
        )
    KeyTally.objects.create(key=key, replay_count=2, conflict_count=1, in_flight_count=1)
    assert isinstance(key, IdempotencyKey)
    return key


def test_the_story_answers_whether_it_happened_twice(key: IdempotencyKey) -> None:
    """Once, when, how long, with what answer, and what became of every retry."""
    text = told(key)

    assert "Executed once, 3 hours ago, in 1.84 s, and answered 201." in text
    assert "That answer was replayed 2 times; nothing was done again." in text
    assert "1 retry came while it ran and was refused." in text
    assert "1 reuse for a different request was refused." in text


def test_the_timeline_is_in_order_with_offsets_and_sources(key: IdempotencyKey) -> None:
    """What, status, duration, who, from where, and how long after the first."""
    text = told(key)
    order = [
        *("Executed, response stored", "shop/2.1", "192.0.2.7", "req-first"),
        *("Refused: the first request was still running", "req-in_flight", "+900 ms"),
        *("Stored response replayed", "+2.40 s", "Refused: the same key with", "+21 min"),
        *("Stored response replayed", "+2.0 h", "Expires", "in 20 hours"),
    ]
    at = text.index("Timeline")
    for part in order:
        at = text.index(part, at)


def test_a_conflict_names_what_differed(key: IdempotencyKey) -> None:
    """Fields by name; what is not of the body by what it is."""
    text = told(key)

    assert "Conflict +21 min: 2 fields differ" in text
    assert "<strong>amount</strong>\n      changed" in text
    assert "<strong>query string</strong>\n      added" in text
    assert "lines[]" in text  # the items of a list count as one field


def test_a_failure_comes_before_the_execution_that_made_up_for_it() -> None:
    """By their times, though the key is read before its events."""
    seen = timezone.now() - timedelta(hours=1)
    key = IdempotencyKeyFactory(
        completed=True, created_at=seen, completed_at=seen + timedelta(seconds=40)
    )
    KeyEventFactory(key=key, kind="failed", status=None, at=seen + timedelta(seconds=2))
    KeyTally.objects.create(key=key, failure_count=1)

    text = told(key)

    assert "1 attempt before it failed and was rolled back." in text
    assert text.index("Failed, everything rolled back") < text.index("Executed, response stored")
    assert "+40.0 s" in text


@pytest.mark.parametrize(
    ("minutes", "attempts", "failures", "text"),
    [
        (2, 1, 0, "Begun 2 minutes ago and not finished: probably still running."),
        (2, 3, 1, "1 attempt ended without a word"),
        (120, 1, 0, "Begun 2 hours ago and never finished: it failed, or its worker"),
        (120, 1, 0, "The next retry executes."),
        (2, 1, 1, "First seen 2 minutes ago and not executed."),
        (2, 2, 2, "The next retry executes."),
        (120, 2, 2, "First seen 2 hours ago and not executed."),
        (120, 1, 1, "1 attempt failed and was rolled back."),
        (120, 2, 2, "2 attempts failed and were rolled back."),
        (120, 4, 1, "3 attempts ended without a word"),
        (120, 11, 1, "No more are begun. Forget the key when the cause is mended."),
    ],
)
def test_an_unfinished_key_says_what_is_likely(
    minutes: int, attempts: int, failures: int, text: str
) -> None:
    """Young: running. Older: free for the next retry, unless it has killed too many workers."""
    created = timezone.now() - timedelta(minutes=minutes)
    key = IdempotencyKeyFactory(created_at=created, attempts=attempts)
    KeyTally.objects.create(key=key, failure_count=failures)

    assert text in told(key)


@pytest.mark.parametrize(
    ("on_expired", "text"),
    [
        ("execute", "the same request sent now would be executed again."),
        ("reject", "the same request sent now would be refused."),
    ],
)
def test_an_expired_key_says_what_a_retry_would_do(
    on_expired: str, text: str, settings: Any
) -> None:
    """It depends on ON_EXPIRED."""
    settings.IDEMPOTENCY = {"ON_EXPIRED": on_expired}

    assert text in told(IdempotencyKeyFactory(completed=True, expired=True))


def test_uses_beyond_the_kept_events_are_told_as_a_number() -> None:
    """AUDIT="counts", or more than a hundred of a kind."""
    key = IdempotencyKeyFactory(completed=True)
    KeyEventFactory(key=key)
    KeyTally.objects.create(key=key, replay_count=412)

    text = told(key)

    assert "replayed 412 times" in text
    assert "411 more, counted only." in text


def test_events_before_a_reuse_are_said_to_be_earlier() -> None:
    """Such a conflict was with another first request: its body is not compared."""
    key = IdempotencyKeyFactory(completed=True, request_record='{"fields":{},"body":{"a":1}}')
    KeyEventFactory(
        key=key,
        kind="conflict",
        at=key.created_at - timedelta(days=2),
        differences='{"a": "changed"}',
        request_record='{"fields":{},"body":{"a":2}}',
    )

    text = told(key, PAYLOAD)

    assert "<title>executed</title>" in text
    assert text.count("idem-m-conflict") == 1  # in the timeline, not in the strip
    assert "An earlier use of this key, before it expired." in text
    assert "Against an earlier request of this key" in text
    assert "idem-diff" not in text


def test_the_clients_other_keys_are_one_click_away() -> None:
    """By the filter of the list, the scope quoted."""
    key = IdempotencyKeyFactory(scope="tenant:7&x=1 ")

    assert f'href="{LIST}?client=tenant%3A7%26x%3D1+"' in page(signed_in(VIEW), detail(key))


def test_a_users_page_is_linked_for_those_who_may_open_it() -> None:
    """A name for everyone, a link with the permission."""
    user = User.objects.create_user("teashop")
    key = IdempotencyKeyFactory(scope=f"user:{user.pk}")
    link = f'<a href="/admin/auth/user/{user.pk}/change/">teashop</a>'

    assert "teashop" in told(key)
    assert link not in told(key)
    assert link in told(key, "view_user")


def test_the_command_line_is_quoted_and_without_credentials() -> None:
    """Whatever key and path hold, the shell sees words."""
    key = IdempotencyKeyFactory(completed=True, key='a"b $(id) \\', path="/x/'; rm -rf /;'")

    text = told(key)

    assert "curl -X POST 'http://testserver/x/'\"'\"';%20rm%20-rf%20/;'\"'\"'' \\\n" in text
    assert """-H 'Idempotency-Key: "a\\"b $(id) \\\\"'""" in text
    assert "Authorization" not in text.split("idem-curl")[2]


def test_an_unknown_id_leads_back_to_the_list(key: IdempotencyKey) -> None:
    """With a word about it; ids that are none likewise."""
    client = signed_in(VIEW, PAYLOAD)

    for odd in (uuid.uuid4(), "x", "%00", "..%2F", "1" * 400):
        response = client.get(f"{LIST}{odd}/change/", follow=True)
        assert response.redirect_chain == [(LIST, 302)]
        assert "There is no such key." in response.content.decode()
        assert client.get(f"{LIST}{odd}/response/").status_code == 404
        assert client.get(f"{LIST}{odd}/history/").status_code in {200, 302}


def test_the_page_takes_a_fixed_number_of_queries(
    key: IdempotencyKey, django_assert_max_num_queries: Any
) -> None:
    """However many events it tells."""
    client = signed_in(VIEW, PAYLOAD)
    page(client, detail(key))
    for _ in range(100):
        KeyEventFactory(key=key, kind="conflict", differences='{"amount": "changed"}')

    with django_assert_max_num_queries(10):
        page(client, detail(key))


ODD = '<script>alert(1)</script> javascript:alert(1) %00 {{ 7|add:7 }} "><img src=x onerror=y>'


def test_what_strangers_sent_stays_text() -> None:
    """In key, path, header, body, agent, field names, and everywhere they are repeated."""
    key = IdempotencyKeyFactory(
        completed=True,
        key=ODD,
        path=f"/{ODD}",
        route=ODD,
        scope=ODD,
        user_agent=ODD,
        request_id=ODD,
        request_record=json.dumps({"fields": {ODD: "aa"}, "body": {ODD: ODD}}),
        response_headers=json.dumps([["X-Odd", ODD], [ODD, "javascript:alert(1)"]]),
        response_body=json.dumps({ODD: ODD}).encode(),
    )
    other = {ODD: f"{ODD}2"}
    KeyEventFactory(
        key=key,
        kind="conflict",
        path=f"/{ODD}",
        user_agent=ODD,
        differences=json.dumps({ODD: "changed"}),
        request_record=json.dumps({"fields": {ODD: "bb"}, "body": other}),
    )
    KeyTally.objects.create(key=key, conflict_count=1)
    client = signed_in(superuser=True)

    for url in (LIST, detail(key), f"{LIST}{key.pk}/history/"):
        html = page(client, url)
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert 'href="javascript:' not in html
        assert "%00" in html
    assert "14" not in page(client, detail(key)).split("idem-curl")[1].split("</pre>")[0]
