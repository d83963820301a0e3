"""Hypothesis drives the application beside a model of it, and the two must agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.signals import post_delete
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from django_idempotency import scope
from django_idempotency.protocol import KeyedRequest
from django_idempotency.rows import KeyRows
from django_idempotency.sql import statements_for
from tests.proof.stateful_keys import MAX_CRASHES, OUTCOMES, Keys

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.conformance.views_more"),
]
LONG = os.environ.get("PROOF") == "long"  # some minutes
USUAL = settings(
    max_examples=600 if LONG else 20,
    stateful_step_count=50 if LONG else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    settings.IDEMPOTENCY = {
        "MAX_CRASHES": MAX_CRASHES,
        "IN_FLIGHT": "wait",
        "WAIT": timedelta(seconds=2),
    }


def test_the_application_does_what_the_model_says() -> None:
    """T4: every answer, every count, every row, after every step."""
    Keys.seen.clear()

    run_state_machine_as_test(Keys, settings=USUAL)

    assert Keys.seen
    if LONG:  # chance reaches some of these only in many examples
        refusals = {"idempotency_key_reused", "idempotency_attempts_exhausted", "401", "403"}
        assert refusals | {"replay", "crash", "purged", *OUTCOMES} <= set(Keys.seen)


def one_scope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scope, "default_scope", lambda request, anonymous=None: "user:4711")


def all_is_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeyedRequest, "is_final", lambda self, status: True)


def nothing_is_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeyRows, "count", lambda self, kind, **kwargs: None)


def keys_outlive_their_user(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(post_delete, "receivers", [])
    post_delete.sender_receivers_cache.clear()


def attempts_stand_still(patch: pytest.MonkeyPatch) -> None:
    texts = statements_for("default")
    patch.setattr(texts, "begin_again", texts.begin_again.replace(" + 1", " + 0", 1))


@pytest.mark.parametrize(
    "sabotage",
    [one_scope, all_is_final, nothing_is_counted, keys_outlive_their_user, attempts_stand_still],
)
def test_a_fault_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: the same machine, with a fault in the application."""
    sabotage(monkeypatch)
    quick = settings(
        USUAL, max_examples=300, phases=[Phase.generate], database=None, report_multiple_bugs=False
    )

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Keys, settings=quick)

    monkeypatch.undo()
    post_delete.sender_receivers_cache.clear()
