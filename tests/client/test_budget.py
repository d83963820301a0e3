"""The retry budget: a token bucket that many threads share."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.client import RetryBudget


@given(st.floats(0.01, 1), st.floats(1, 50), st.lists(st.booleans(), max_size=300))
def test_retries_stay_within_the_stated_share(
    share: float, burst: float, events: list[bool]
) -> None:
    """However operations (True) and retries (False) are mixed."""
    budget = RetryBudget(share, burst=burst)
    operations = retries = 0
    for is_operation in events:
        if is_operation:
            budget.deposit()
            operations += 1
        else:
            retries += budget.take()
        assert retries <= burst + share * operations + 1e-6
        assert 0 <= budget.available <= burst


def test_threads_cannot_take_the_same_token() -> None:
    """10 tokens, 200 threads' worth of takers."""
    budget = RetryBudget(burst=10)
    with ThreadPoolExecutor(20) as pool:
        taken = sum(pool.map(lambda _: budget.take(), range(200)))
    assert taken == 10


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"share": s}, "share must be above 0 and at most 1")
        for s in (0, -0.1, 1.1, math.nan, "1", True)
    ]
    + [
        ({"burst": b}, "burst must be a number of 1 or more")
        for b in (0, -1, math.inf, math.nan, None)
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], rule: str) -> None:
    """At construction, with the rule."""
    with pytest.raises(ValueError, match=rule):
        RetryBudget(**options)
