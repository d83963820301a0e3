"""Each rule about state is a constraint: a test violates it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from django_idempotency.models import IdempotencyKey
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("constraint", "lie"),
    [
        ("completed_iff_answered", {"completed_at": timezone.now()}),
        ("completed_iff_answered", {"response_status": 201}),
        ("completed_iff_answered", {"response_body": b"x"}),
        ("completed_iff_answered", {"completed": True, "response_status": 99}),
        ("completed_iff_answered", {"completed": True, "response_headers": None}),
        ("expires_after_first_seen", {"expires_at": timezone.now().replace(year=2000)}),
        ("is_named", {"key": ""}),
        ("is_named", {"scope": ""}),
        ("is_named", {"fingerprint": ""}),
        ("attempts_positive", {"attempts": 0}),
    ],
)
def test_a_key_cannot_hold_a_lie(constraint: str, lie: dict[str, Any]) -> None:
    """The database refuses, and names the rule."""
    with pytest.raises(IntegrityError, match=f"idempotency_key_{constraint}"), transaction.atomic():
        IdempotencyKeyFactory(**lie)


@pytest.mark.parametrize(
    ("constraint", "lie"),
    [("kind_known", {"kind": "other"}), ("only_conflicts_differ", {"differences": "{}"})],
)
def test_an_event_cannot_hold_a_lie(constraint: str, lie: dict[str, Any]) -> None:
    """The database refuses, and names the rule."""
    with (
        pytest.raises(IntegrityError, match=f"idempotency_event_{constraint}"),
        transaction.atomic(),
    ):
        KeyEventFactory(**lie)


def test_a_final_response_may_be_without_a_body() -> None:
    """What was too large to keep is final all the same."""
    assert IdempotencyKeyFactory(completed=True, response_body=None).completed_at is not None


def test_a_key_is_found_in_every_scope_by_its_primary_key() -> None:
    """Exact search scans a range of the primary key, and nothing else matches."""
    mine, other = (IdempotencyKeyFactory(scope=scope, key="shared") for scope in ("a", "b"))
    IdempotencyKeyFactory(key="shared-not")

    assert set(IdempotencyKey.objects.for_key("shared")) == {mine, other}
    assert IdempotencyKey.objects.in_scope("a", "shared").get() == mine


def test_counts_are_zero_without_a_tally() -> None:
    """A key that was used once has no tally row."""
    key = IdempotencyKeyFactory()

    counts = (key.replay_count, key.conflict_count, key.in_flight_count, key.failure_count)
    assert counts == (0, 0, 0, 0)
    assert IdempotencyKey.objects.with_counts().get().replays == 0  # type: ignore[attr-defined]
