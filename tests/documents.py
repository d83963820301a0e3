"""The documents, and the shop that their examples import."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver

from django_idempotency import exceptions
from django_idempotency.contrib.outbound import handlers
from django_idempotency.exceptions import IdempotencyError
from tests.orders.models import Order
from tests.orders.views import OrderSerializer, OrderViewSet

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PROBLEMS = {
    value.slug: value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, IdempotencyError) and "slug" in vars(value)
    if value is not IdempotencyError
}
# These are typed into a project of their own: see test_newcomer.
TYPED = {DOCS / "quickstart.md", DOCS / "testing.md"}

_SHOP: dict[str, dict[str, Any]] = {
    "shop": {},
    "shop.models": {"Order": Order},
    "shop.forms": {"OrderForm": object},
    "shop.serializers": {"OrderSerializer": OrderSerializer},
    "shop.views": {"OrderViewSet": OrderViewSet},
    "shop.gateway": {"charge": lambda order, idempotency_key: None},
    "shop.outbound": {"charge": lambda intent: None},
    "celery": {"shared_task": lambda **options: lambda task: task},
    "stripe": {"CardError": OSError, "InvalidRequestError": ValueError},
    "corsheaders": {},
    "corsheaders.defaults": {"default_headers": ("accept",)},
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def example(page: Path, holds: str, language: str = "python") -> str:
    """The one block of a page that holds a text."""
    (found,) = [block for block in blocks(page, language) if holds in block]
    return found


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "shop.example"}
    exec(compile(block, "<example>", "exec"), names)  # noqa: S102 - our own documents
    return names


def serve(settings: Any, *patterns: URLPattern | URLResolver) -> None:
    urls: Any = ModuleType("shop.urls")
    urls.urlpatterns = patterns
    settings.ROOT_URLCONF = urls


def templates(settings: Any, pages: Mapping[str, str]) -> None:
    """Let Django find these templates, and no others."""
    backend = "django.template.backends.django.DjangoTemplates"
    options = {
        "loaders": [("django.template.loaders.locmem.Loader", dict(pages))],
        "context_processors": ["django.template.context_processors.request"],
    }
    settings.TEMPLATES = [{"BACKEND": backend, "OPTIONS": options}]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that the examples import: their shop is the tests' app."""
    for name, members in _SHOP.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(handlers, "handlers", {})  # what the examples register is not kept
