"""The three pages under django-unfold; run by ``test_unfold.py`` in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from django_idempotency.models import IdempotencyKey
from tests.browser.conftest import SignIn

Visit = Callable[..., Page]


@pytest.fixture(autouse=True)
def _policy(settings: Any) -> None:
    """The theme itself has inline styles and scripts."""
    settings.SECURE_CSP = {}


def test_from_the_list_to_the_comparison(
    sign_in: SignIn, visit: Visit, talked_about: IdempotencyKey
) -> None:
    sign_in()
    page = visit()
    page.get_by_role("link", name=re.compile("^Conflicts refused")).click()
    page.get_by_title(talked_about.key).first.click()

    expect(page.locator(".idem-diff del").first).to_be_visible()
    page.get_by_role("button", name="Forget this key").click()
    expect(page.get_by_role("heading", name="Forget this key?", level=1)).to_be_visible()
    page.get_by_role("button", name="Forget, and allow a second execution").click()
    expect(page.locator(".idem-tiles")).to_be_visible()
    assert not IdempotencyKey.objects.filter(pk=talked_about.pk).exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview(
    sign_in: SignIn, visit: Visit, page: Page, history: None, scheme: Any
) -> None:
    """Its charts have the colours of the theme, which marks dark by a class."""
    page.emulate_media(color_scheme=scheme)
    sign_in()
    visit("overview/")

    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    expect(page.get_by_role("img", name="Keyed requests over time")).to_be_visible()
    bar = page.locator(".idem-plot rect.idem-c-executed").first
    light = bar.evaluate("bar => getComputedStyle(bar).fill") == "rgb(63, 127, 166)"
    assert light == (scheme == "light")
    page.locator("summary").first.click()
    expect(page.get_by_role("table", name="Keyed requests over time")).to_be_visible()


@pytest.mark.parametrize("where", ["", "overview/", "{key}/change/"])
def test_pages_fit_a_phone(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey, where: str
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in()
    visit(where.format(key=talked_about.pk))

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_no_cell_lies_over_another_on_a_phone(
    sign_in: SignIn, visit: Visit, page: Page, history: None
) -> None:
    """The theme may make cards of the rows; our measures are for Django's own table."""
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in()
    visit()

    cells = page.locator("#result_list tbody tr").first.locator("> *").all()
    boxes = [box for cell in cells if (box := cell.bounding_box())]
    assert len(boxes) >= 7
    for one, other in combinations(boxes, 2):
        beside = _end(one, "x", "width") <= other["x"] or _end(other, "x", "width") <= one["x"]
        below = _end(one, "y", "height") <= other["y"] or _end(other, "y", "height") <= one["y"]
        assert beside or below, (one, other)


def _end(box: Any, start: str, size: str) -> float:
    return box[start] + box[size] - 1  # borders may meet
