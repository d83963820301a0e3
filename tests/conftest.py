from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection

from tests import verdicts
from tests.orders import views
from tests.sender import Sender

_left_out = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    if connection.vendor == "mysql":
        # PyMySQL leaves the socket of a connection that the server has ended to the collector.
        config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the database cannot do: see the markers in pyproject.toml."""
    lacking = set() if connection.vendor == "postgresql" else {"postgres"}
    if connection.vendor == "sqlite":
        lacking.add("row_locks")
    left_out = [item for item in items if lacking & {mark.name for mark in item.iter_markers()}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        kept = set(items) - set(left_out)
        items[:] = [item for item in items if item in kept]
    config.stash[_left_out] = len(left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    count = config.stash.get(_left_out, 0)
    needed = "PostgreSQL or row locks" if connection.vendor == "sqlite" else "PostgreSQL"
    note = f"deselected: {count} that need {needed} (this is {connection.vendor})"
    return note if count else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = (terminalreporter.stats.get(kind, ()) for kind in ("passed", "failed"))
    calls = (report for some in reports for report in some if report.when == "call")
    for line in verdicts.lines(calls):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _usual_behaviour() -> Iterator[None]:
    """No test inherits what another made the views do."""
    yield
    views.BEHAVIOUR.clear()


@pytest.fixture
def nobody_is_throttled() -> Iterator[None]:
    """The throttles count in the cache, which outlives a test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def after() -> Callable[[Callable[..., Any]], None]:
    """Set what the views do once they have written their row."""
    return lambda behave: views.BEHAVIOUR.update(after=behave)


@pytest.fixture
def send(transactional_db: None) -> Sender:
    return Sender()


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call something before the first request takes a step; nobody stops the requests in it."""

    def put(owner: Any, step: str, *acts: Callable[[], Any]) -> None:
        usual_step, left = getattr(owner, step), list(acts)

        def stopped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if left:
                left.pop(0)()
            return usual_step(self, *args, **kwargs)

        monkeypatch.setattr(owner, step, stopped)

    return put
