"""The retry budget in a simulated restart: the server comes back, and the retries let it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.retry_storm import STRATEGIES, Result, draw, simulate
from django_idempotency.client import RetryBudget

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "retry-storm.svg"


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {strategy.name: simulate(strategy) for strategy in STRATEGIES}


def test_retries_add_at_most_the_stated_share(results: dict[str, Result]) -> None:
    """A tenth of the traffic and the burst; without the budget they multiply it."""
    usual = RetryBudget()
    limited = results["exponential + jitter + budget"]

    assert 0 < limited.retries <= usual.burst + usual.share * limited.operations
    assert results["exponential + jitter"].retries > 10 * limited.retries


def test_each_measure_lowers_the_peak(results: dict[str, Result]) -> None:
    """Backoff, then jitter, then the budget; the last stays near the usual traffic."""
    peaks = [result.peak for result in results.values()]

    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] > 2 * peaks[1] > 4 * peaks[2] > 8 * peaks[3]


def test_with_a_budget_the_server_is_calm_at_once(results: dict[str, Result]) -> None:
    """Within a second; without one the storm goes on for seconds after the restart."""
    *others, limited = results.values()

    assert limited.recovered < 1
    assert min(other.recovered for other in others) > 3
    assert limited.unknown <= min(other.unknown for other in others)


def test_the_picture_in_the_docs_is_what_the_script_draws(results: dict[str, Result]) -> None:
    """``python -m benchmarks.retry_storm --write`` after a change."""
    assert PICTURE.read_text() == draw(results)
