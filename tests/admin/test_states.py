"""In progress or unfinished: badge, story, tile and filter give one answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_idempotency.admin.reports import Source, tiles
from django_idempotency.models import IdempotencyKey, KeyTally
from tests.admin.people import LIST, VIEW, detail, page, shown, signed_in
from tests.factories import IdempotencyKeyFactory
from tests.sender import new_key

pytestmark = pytest.mark.django_db


def test_unfinished_keys_are_in_progress_at_first() -> None:
    """For five minutes; after that nobody waits for them."""
    IdempotencyKeyFactory(created_at=timezone.now() - timedelta(minutes=4))
    IdempotencyKeyFactory(created_at=timezone.now() - timedelta(minutes=6))

    html = page(signed_in(VIEW), LIST)

    assert html.count('idem-run">In progress<') == 1
    assert html.count('idem-warn">Unfinished<') == 1


@pytest.mark.parametrize(
    ("attempts", "failed", "gave_way", "state"),
    [
        (1, 1, 0, "unfinished"),
        (3, 2, 1, "unfinished"),
        (1, 0, 1, "unfinished"),
        (2, 1, 0, "in_progress"),
        (3, 1, 1, "in_progress"),
        (1, 0, 0, "in_progress"),
    ],
)
def test_a_key_of_which_every_execution_failed_is_not_in_progress(
    attempts: int, failed: int, gave_way: int, state: str
) -> None:
    """However young it is: badge, filter and tile agree that the next retry may have it."""
    key = IdempotencyKeyFactory(attempts=attempts)
    KeyTally.objects.create(key=key, failure_count=failed, given_way_count=gave_way)
    badges = {"unfinished": 'idem-warn">Unfinished<', "in_progress": 'idem-run">In progress<'}

    html = page(signed_in(VIEW), LIST)
    counted = tiles(Source.of(IdempotencyKey.objects.all()), timezone.now())

    assert [name for name, badge in badges.items() if badge in html] == [state]
    assert [name for name in badges if shown({"state": name})] == [state]
    assert [name for name in badges if getattr(counted, name)] == [state]


def test_a_request_that_has_just_failed_is_unfinished(send: Any, after: Any) -> None:
    """As the engine leaves it: no guess is made where it is known."""

    def fail(request: Any, order: Any) -> None:
        raise ZeroDivisionError

    name = new_key()
    after(fail)
    assert send("/apiview/", key=name).status_code == 500
    key = IdempotencyKey.objects.get()
    assert (key.attempts, key.failure_count) == (1, 1)

    assert shown({"state": "unfinished"}) == {name}
    text = page(signed_in(VIEW), detail(key))
    assert "First seen just now and not executed." in text
    assert "1 attempt failed and was rolled back." in text
    assert "The next retry executes." in text
    assert "still running" not in text
