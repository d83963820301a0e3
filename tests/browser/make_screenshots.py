"""``make screenshots``: the pages of the admin with the demo's history, for the documentation.

Not collected with the tests. With the settings of django-unfold it takes that theme's pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Page

from django_idempotency.models import IdempotencyKey
from tests.browser.conftest import SignIn

IMAGES = Path(__file__).parents[2] / "docs" / "images"
UNFOLD = "unfold" in settings.INSTALLED_APPS
WIDTH, HEIGHT = 1440, 900
PHONE = (390, 844)
# (name, path, whole page); the list is cut at the fold.
PAGES = (
    ("list", "", False),
    ("detail", "{key}/change/", True),
    ("overview", "overview/", True),
)


@pytest.fixture(autouse=True)
def _policy(settings: Any) -> None:
    settings.SECURE_CSP = {}  # the theme's own pages would not survive it


@pytest.mark.parametrize(("name", "path", "whole"), PAGES)
def test_take(
    sign_in: SignIn,
    visit: Callable[..., Page],
    page: Page,
    talked_about: IdempotencyKey,
    name: str,
    path: str,
    whole: bool,
) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    sign_in()
    path = path.format(key=talked_about.pk)
    prefix = "admin-unfold" if UNFOLD else "admin"
    for scheme in ("light",) if UNFOLD else ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        visit(path)
        page.screenshot(path=IMAGES / f"{prefix}-{name}-{scheme}.png", full_page=whole)
    if name == "detail" and not UNFOLD:
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        visit(path)
        page.screenshot(path=IMAGES / f"{prefix}-{name}-phone.png", full_page=True)
