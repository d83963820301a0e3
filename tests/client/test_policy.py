"""When the client tries again: bounds, defaults, and bad values that are refused by name."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.client import RetryPolicy
from django_idempotency.client.policy import SHORTEST_ATTEMPT, full_jitter

seconds = st.floats(min_value=0.01, max_value=1000)
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(0, 5000), seconds, seconds, fractions)
def test_a_pause_is_a_fraction_of_the_bound(
    retry: int, base: float, cap: float, fraction: float
) -> None:
    """Full jitter: uniform from 0 to min(cap, base * 2**n), also when 2**n is past all floats."""
    bound = min(cap, base * 2.0 ** min(retry, 64))

    assert full_jitter(retry, base=base, cap=cap, rand=lambda: fraction) == fraction * bound


def test_the_jitter_is_full() -> None:
    """The least and the most are reached, so clients spread over the whole of it."""
    assert full_jitter(3, base=1, cap=60, rand=lambda: 0.0) == 0
    assert full_jitter(3, base=1, cap=60, rand=lambda: 1.0) == 8
    assert len({full_jitter(3, base=1, cap=60) for _ in range(100)}) > 90


def test_a_negative_retry_is_refused() -> None:
    """The first has number 0."""
    with pytest.raises(ValueError, match="0 or more"):
        full_jitter(-1, base=1, cap=1)


@given(
    retry=st.integers(0, 20),
    at_least=st.floats(0, 100),
    left=st.floats(-1, 100),
    fraction=fractions,
)
def test_a_pause_fits_and_is_never_shorter_than_the_server_asked(
    retry: int, at_least: float, left: float, fraction: float
) -> None:
    """Retry-After is a minimum; what does not fit into the time is not begun."""
    policy = RetryPolicy()

    pause = policy.pause(retry, at_least=at_least, left=left, rand=lambda: fraction)

    fits = at_least + SHORTEST_ATTEMPT <= left
    if pause is None:
        assert not fits or left <= SHORTEST_ATTEMPT
    else:
        bound = max(1.1 * at_least, min(policy.cap, policy.base * 2**retry))
        assert at_least <= pause <= bound + 1e-9
        assert pause <= left - SHORTEST_ATTEMPT + 1e-9


@pytest.mark.parametrize("name", ["base", "cap", "deadline", "connect_timeout", "timeout"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 1e9, 10**400, "1", None, True])
def test_a_time_must_be_positive_seconds(name: str, value: Any) -> None:
    """At construction, by name."""
    with pytest.raises(ValueError, match=f"^{name} must be a positive number of seconds, at most "):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", True])
def test_attempts_must_be_a_whole_number(attempts: Any) -> None:
    """Zero attempts would be no operation."""
    with pytest.raises(ValueError, match=r"^attempts must be a whole number of 1 or more"):
        RetryPolicy(attempts=attempts)


def test_the_first_pause_must_not_exceed_the_longest() -> None:
    """A typo that would silently switch off the growth."""
    with pytest.raises(ValueError, match=re.escape("base must not exceed cap")):
        RetryPolicy(base=10, cap=1)
