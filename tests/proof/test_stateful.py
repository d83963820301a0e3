"""Hypothesis drives the application beside a model of it, and the two must agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.signals import post_delete
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from rest_framework.permissions import IsAuthenticated

from django_idempotency import scope, upkeep
from django_idempotency.models import IdempotencyKeyQuerySet
from django_idempotency.protocol import KeyedRequest
from django_idempotency.rows import KeyRows
from django_idempotency.sql import statements_for
from tests.conformance.views_more import Guarded
from tests.proof.stateful_keys import MAX_CRASHES, OUTCOMES, Keys

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.conformance.views_more"),
]
LONG = os.environ.get("PROOF") == "long"  # some minutes
Sabotage = Callable[[pytest.MonkeyPatch], None]
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
        assert refusals | {
            "replay",
            "crash",
            "purged",
            "forget_keys",
            "expire_keys",
            *OUTCOMES,
        } <= set(Keys.seen)


# One or more for each rule of the machine: send, another body, another user, crash, time, purge,
# a permission that is taken away, a user who goes, and what operators do.


def recorded(**changes: Any) -> Sabotage:
    """Each key is read with something that is not so."""
    record = KeyRows._record

    def sabotage(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(KeyRows, "_record", lambda *args: replace(record(*args), **changes))

    return sabotage


def all_is_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeyedRequest, "is_final", lambda self, status: True)


def nothing_is_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeyRows, "count", lambda self, kind, **kwargs: None)


def one_scope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scope, "default_scope", lambda request, anonymous=None: "user:4711")


def attempts_stand_still(patch: pytest.MonkeyPatch) -> None:
    texts = statements_for("default")
    patch.setattr(texts, "begin_again", texts.begin_again.replace(" + 1", " + 0", 1))


def the_purge_takes_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IdempotencyKeyQuerySet, "expired", lambda self, **kwargs: self.all())


def permissions_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Guarded, "permission_classes", [IsAuthenticated])


def keys_outlive_their_user(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(post_delete, "receivers", [])
    post_delete.sender_receivers_cache.clear()


def operators_delete_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(upkeep, "_delete", lambda ids, alias: None)


def operators_expire_what_runs(patch: pytest.MonkeyPatch) -> None:
    """Free keys as well: their next request would begin to count anew."""
    patch.setattr(IdempotencyKeyQuerySet, "completed", lambda self: self.all())


SABOTAGES: dict[str, Sabotage] = {
    sabotage.__name__: sabotage
    for sabotage in (
        *(all_is_final, nothing_is_counted, one_scope, attempts_stand_still),
        *(the_purge_takes_all, permissions_are_not_asked, keys_outlive_their_user),
        *(operators_delete_nothing, operators_expire_what_runs),
    )
} | {
    "another_body_is_the_same": recorded(same_request=True),
    "nothing_expires": recorded(expired=False),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: the same machine, with a fault in the application."""
    SABOTAGES[name](monkeypatch)
    quick = settings(
        USUAL,
        max_examples=300,
        phases=[Phase.generate],
        database=None,
        derandomize=True,  # found today, found tomorrow
        report_multiple_bugs=False,
    )

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Keys, settings=quick)

    monkeypatch.undo()
    post_delete.sender_receivers_cache.clear()
