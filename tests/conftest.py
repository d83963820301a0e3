from __future__ import annotations

import pytest
from django.db import connection

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
