"""The admin shows keys and their history and lets nobody change them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/django_idempotency/idempotencykey/"


def signed_in(*permissions: str, superuser: bool = False) -> Client:
    user = User.objects.create_user("staff", is_staff=True, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def key() -> IdempotencyKey:
    key = IdempotencyKeyFactory(
        completed=True,
        scope="user:999",
        key="order-<script>alert(1)</script>",
        response_body=b'{"canary": "s3cret"}',
        response_headers=json.dumps([["Content-Type", "application/json"], ["X-Canary", "h1dden"]]),
    )
    KeyTally.objects.create(key=key, replay_count=3, conflict_count=1)
    KeyEventFactory(key=key, kind="conflict", status=422, differences='{"amount": "changed"}')
    assert isinstance(key, IdempotencyKey)
    return key


def test_the_list_shows_outcome_and_counts(key: IdempotencyKey) -> None:
    """Key, client, request, outcome, replays, conflicting reuses; stored markup stays text."""
    page = signed_in("view_idempotencykey").get(LIST).content.decode()

    assert "order-&lt;script&gt;" in page
    assert "<script>alert(1)" not in page
    for shown in ("user:999", "POST /payments/", "201"):
        assert shown in page
    assert '<td class="field-replays">3</td>' in page
    assert '<td class="field-conflicts">1</td>' in page


def test_search_finds_the_exact_key(key: IdempotencyKey) -> None:
    """In every scope, quoted or not; a part of a key finds nothing."""
    IdempotencyKeyFactory(key="other")
    client = signed_in("view_idempotencykey")

    assert "1 idempotency key" in client.get(LIST, {"q": '"other"'}).content.decode()
    assert "0 idempotency keys" in client.get(LIST, {"q": "oth"}).content.decode()
    assert client.get(LIST, {"q": "\x00"}).status_code == 200


def test_the_detail_shows_the_trace(key: IdempotencyKey) -> None:
    """What differed in a conflict, by name."""
    page = signed_in("view_idempotencykey").get(f"{LIST}{key.pk}/change/").content.decode()

    assert "Conflicting reuse" in page
    assert "amount changed" in page


def test_payload_needs_its_own_permission(key: IdempotencyKey) -> None:
    """Neither body nor header values reach staff without view_payload."""
    url = f"{LIST}{key.pk}/change/"
    page = signed_in("view_idempotencykey").get(url).content.decode()
    assert "s3cret" not in page
    assert "h1dden" not in page

    User.objects.all().delete()
    page = signed_in("view_idempotencykey", "view_payload").get(url).content.decode()
    assert "s3cret" in page
    assert "h1dden" in page


def test_nobody_adds_changes_or_deletes_a_key(key: IdempotencyKey) -> None:
    """Not even a superuser, not even by URL."""
    client = signed_in(superuser=True)

    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{key.pk}/change/", {"key": "x"}).status_code == 403
    assert client.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert IdempotencyKey.objects.get().key == key.key


def test_the_number_of_queries_does_not_grow_with_the_page(
    key: IdempotencyKey, django_assert_max_num_queries: Any
) -> None:
    """Counts come with the rows."""
    IdempotencyKeyFactory.create_batch(40, completed=True)
    client = signed_in("view_idempotencykey")

    with django_assert_max_num_queries(8):
        assert client.get(LIST).status_code == 200
