"""Browser tests are skipped with a reason, or demanded, and never disturb the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import conftest


class FakeItem:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.markers: list[Any] = []

    def add_marker(self, marker: Any) -> None:
        self.markers.append(marker)


@pytest.fixture
def items() -> list[Any]:
    here = conftest.HERE
    return [FakeItem(here / "test_desk.py"), FakeItem(here.parent / "test_async.py")]


def test_without_a_browser_they_are_skipped_and_say_how_to_get_one(
    items: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "chromium", lambda: None)
    monkeypatch.delenv("REQUIRE_BROWSER", raising=False)

    conftest.pytest_collection_modifyitems(items)

    other, browser = items
    assert "apt-get install chromium" in browser.markers[0].kwargs["reason"]
    assert other.markers == []


def test_the_ci_demands_a_browser(items: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "chromium", lambda: None)
    monkeypatch.setenv("REQUIRE_BROWSER", "1")

    with pytest.raises(pytest.UsageError, match="apt-get install chromium"):
        conftest.pytest_collection_modifyitems(items)


def test_they_come_last(items: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop that they leave running would break every test of async views."""
    monkeypatch.setattr(conftest, "chromium", lambda: "/usr/bin/chromium")

    conftest.pytest_collection_modifyitems(items)

    assert [item.path.name for item in items] == ["test_async.py", "test_desk.py"]
    assert items[1].markers == []
