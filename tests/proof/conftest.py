"""The verdict: one line at the end of a run that says what was proven, and what was not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from tests.proof.bench import Site, Verdict
from tests.proof.enumeration import enumerate_faults
from tests.proof.pooler import pgbouncer, program
from tests.verdicts import LINE, SUM


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``proof`` unless ``-m`` asks for it."""
    if "proof" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("proof")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("proof")]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """``tell(line)`` adds a verdict to the end of the run."""
    return lambda line: request.node.user_properties.append((LINE, line))


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Callable[[str, Verdict], None]:
    """``judged(name, verdict)`` adds to the verdict of that name and fails on a violation."""
    started = time.perf_counter()

    def add(name: str, verdict: Verdict) -> None:
        counts = (verdict.scenarios, verdict.fired, len(verdict.violations))
        times = (verdict.slowest, time.perf_counter() - started)
        request.node.user_properties.append((SUM, (name, *counts, *times)))
        assert verdict.scenarios
        assert verdict.fired == verdict.scenarios
        assert not verdict.violations, "\n".join(verdict.violations[:20])

    return add


@pytest.fixture(scope="session")
def pooler(django_db_setup: None) -> Iterator[dict[str, Any]]:
    """PgBouncer before the tests' database."""
    if program() is None:
        pytest.skip("pgbouncer is not installed")
    with pgbouncer(dict(connections.settings["default"])) as entry:
        yield entry


@pytest.fixture
def enumerated(
    request: pytest.FixtureRequest, judged: Callable[[str, Verdict], None]
) -> Callable[..., None]:
    """``enumerated(site, flow, shape, pick)``: strike everywhere and judge."""

    def run(site: Site, flow: str, shape: str, **options: Any) -> None:
        pooler = request.getfixturevalue("pooler") if site.route == "pooled" else None
        judged("crashes", enumerate_faults(site, flow, shape, pooler=pooler, **options))

    return run
