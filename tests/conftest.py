from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tests.orders import views
from tests.sender import Sender

_left_out = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``postgres`` when the database is another one."""
    if connection.vendor == "postgresql":
        return
    left_out = [item for item in items if item.get_closest_marker("postgres")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("postgres")]
    config.stash[_left_out] = len(left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    count = config.stash.get(_left_out, 0)
    database = connection.display_name
    return f"deselected: {count} that need PostgreSQL (this is {database})" if count else None


@pytest.fixture(autouse=True)
def _usual_behaviour() -> Iterator[None]:
    """No test inherits what another made the views do."""
    yield
    views.BEHAVIOUR.clear()


@pytest.fixture
def after() -> Callable[[Callable[..., Any]], None]:
    """Set what the views do once they have written their row."""
    return lambda behave: views.BEHAVIOUR.update(after=behave)


@pytest.fixture
def send(transactional_db: None) -> Sender:
    return Sender()
