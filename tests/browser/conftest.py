"""A browser that looks at the admin: the system's Chromium, on a live server.

Where there is none the tests are skipped and say how to get it; ``REQUIRE_BROWSER=1``, as in
the CI, makes that an error instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client, override_settings
from playwright.sync_api import ConsoleMessage, Page
from pytest_django.live_server_helper import LiveServer

from django_idempotency.admin import reports
from django_idempotency.models import IdempotencyKey

HERE = Path(__file__).parent
LIST = "/admin/django_idempotency/idempotencykey/"
NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium, or set CHROMIUM=/path/to/it"
CSP = "django.middleware.csp"  # Django 6.0 and newer
FLAGS = (
    "--no-sandbox",  # root in a container has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

SignIn = Callable[..., None]


def chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests last, and skip them where they cannot run.

    Last, because Playwright leaves an event loop running in this thread: ``async_to_sync``
    refuses to work in any test that comes after.
    """
    items.sort(key=_in_browser)
    if chromium():
        return
    if os.environ.get("REQUIRE_BROWSER") == "1":
        message = f"REQUIRE_BROWSER=1, and there is no Chromium: {INSTALL}"
        raise pytest.UsageError(message)
    for item in filter(_in_browser, items):
        item.add_marker(pytest.mark.skip(reason=f"no Chromium: {INSTALL}"))


def _in_browser(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Django would refuse the ORM in a thread with a running loop; nothing here awaits it."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_type_launch_args, "executable_path": chromium(), "args": list(FLAGS)}


@pytest.fixture(scope="session")
def base_url() -> None:
    """Instead of the plug-in's own, which pytest 9 warns of."""


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    """A server under the strictest useful policy: nothing but our own files."""
    ours = find_spec("django.middleware.csp") is None
    policy = "tests.browser.csp.Policy" if ours else f"{CSP}.ContentSecurityPolicyMiddleware"
    with override_settings(MIDDLEWARE=[policy, *settings.MIDDLEWARE]):
        server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _policy(settings: Any) -> None:
    settings.SECURE_CSP = {"default-src": ["'self'"]}


@pytest.fixture
def history(transactional_db: None, settings: Any) -> Iterator[None]:
    """The demo's two weeks."""
    settings.DEBUG = True  # the demo runs with nothing else
    call_command("demo", no_serve=True, stdout=StringIO())
    settings.DEBUG = False
    reports._past_days.cache_clear()
    yield
    reports._past_days.cache_clear()


@pytest.fixture
def sign_in(page: Page, live_server: Any, transactional_db: None) -> SignIn:
    """Become staff with these permissions, or the demo's superuser with none given."""

    def sign_in(*permissions: str) -> None:
        user, _created = User.objects.get_or_create(username="staff", is_staff=True)
        user.is_superuser = not permissions
        user.save()
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        cookie = client.cookies["sessionid"].value
        page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])

    return sign_in


@pytest.fixture
def visit(page: Page, live_server: Any) -> Callable[[str], Page]:
    def visit(path: str = "") -> Page:
        page.goto(f"{live_server.url}{LIST}{path}")
        return page

    return visit


@pytest.fixture(autouse=True)
def complaints(page: Page) -> Iterator[list[str]]:
    """What the browser reports as an error, or asks in a dialog: nothing, at the end of a test."""
    found: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        favicon = "favicon.ico" in message.location.get("url", "")
        if message.type in {"error", "warning"} and not favicon:
            found.append(f"{message.type}: {message.text} ({message.location})")

    page.on("console", heard)
    page.on("pageerror", lambda error: found.append(f"error: {error}"))

    def asked(dialog: Any) -> None:
        found.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", asked)
    yield found
    assert found == []


@pytest.fixture
def talked_about(history: None) -> IdempotencyKey:
    """The key with everything in it: refused in flight, replayed, reused."""
    keys = IdempotencyKey.objects.filter(
        tally__conflict_count__gt=0, tally__in_flight_count__gt=0, tally__replay_count__gt=0
    )
    key = keys.order_by("-created_at").first()
    assert key
    return key
