"""Rows H14 and H15: what docs/browsers.md tells a site to set is what a browser needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.orders.models import Order
from tests.sender import Sender, new_key

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "browsers.md"
SHOP = "https://shop.example"
OTHER = "https://other.example"
READABLE = {"Idempotency-Key", "Idempotent-Replayed", "Retry-After", "Location"}

every_kind = pytest.mark.parametrize("way", ["/apiview/", "/function/", "/plain/", "/async/"])


def snippet() -> dict[str, Any]:
    """The settings of the document, as they stand there."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if "CORS_ALLOW_HEADERS" in block]
    names: dict[str, Any] = {}
    exec(compile(block, str(DOCUMENT), "exec"), names)  # noqa: S102 - our own document
    return {name: value for name, value in names.items() if name.startswith("CORS_")}


@pytest.fixture
def _cors(settings: Any) -> None:
    """django-cors-headers as its own documents install it, for one origin."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    settings.CORS_ALLOWED_ORIGINS = [SHOP]


@pytest.fixture
def _as_documented(settings: Any, _cors: None) -> None:
    for name, value in snippet().items():
        setattr(settings, name, value)


def preflight(way: str, *headers: str, origin: str = SHOP) -> Any:
    """What a browser asks before a POST with these headers."""
    return Client().options(
        way,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ",".join(headers),
        },
    )


def listed(response: Any, name: str) -> set[str]:
    return {item.strip() for item in response.get(name, "").split(",") if item.strip()}


def lets_through(response: Any, *headers: str, origin: str = SHOP) -> bool:
    """Whether a browser would send the request (Fetch standard, CORS-preflight fetch)."""
    allowed = {name.lower() for name in listed(response, "Access-Control-Allow-Headers")}
    return (
        response.status_code == 200
        and response.get("Access-Control-Allow-Origin") in {origin, "*"}
        and "POST" in listed(response, "Access-Control-Allow-Methods")
        and set(headers) <= allowed
    )


@pytest.mark.usefixtures("_as_documented")
@every_kind
def test_h14_the_documented_snippet_lets_the_header_through(db: None, way: str) -> None:
    """H14: a real preflight passes, and runs nothing."""
    asked = ("content-type", "idempotency-key")

    assert lets_through(preflight(way, *asked), *asked)
    assert not Order.objects.exists()


@pytest.mark.usefixtures("_cors")
def test_h14_without_the_snippet_the_header_is_stopped(db: None) -> None:
    """H14: django-cors-headers does not list it by itself, so the snippet is needed."""
    answer = preflight("/apiview/", "idempotency-key")

    assert lets_through(answer)
    assert not lets_through(answer, "idempotency-key")


@pytest.mark.usefixtures("_as_documented")
def test_h14_the_snippet_opens_no_other_origin(db: None) -> None:
    """H14: who may ask is the site's own choice."""
    answer = preflight("/apiview/", "idempotency-key", origin=OTHER)

    assert not lets_through(answer, "idempotency-key", origin=OTHER)


@pytest.mark.usefixtures("_as_documented")
@every_kind
def test_h15_scripts_may_read_what_they_need(transactional_db: None, way: str) -> None:
    """H15, H4: on the first answer, on a replay and on a refusal alike, once each."""
    send, key = Sender(), new_key()

    answers = [send(way, key=key, Origin=SHOP) for _ in range(2)]
    answers.append(send(way, {"sku": "tea", "qty": 2}, key=key, Origin=SHOP))

    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert answers[1]["Idempotent-Replayed"] == "true"
    for answer in answers:
        assert answer["Access-Control-Allow-Origin"] == SHOP
        assert listed(answer, "Access-Control-Expose-Headers") == READABLE
        assert answer["Vary"].lower().count("origin") == 1
        assert "Idempotency-Key" in answer
    assert "Location" in answers[1]


@pytest.mark.usefixtures("_as_documented")
def test_h15_a_replay_is_for_the_origin_that_asks(transactional_db: None, settings: Any) -> None:
    """H15, H4: the origin of the first request is not stored."""
    settings.CORS_ALLOWED_ORIGINS = [SHOP, OTHER]
    send, key = Sender(), new_key()
    send("/plain/", key=key, Origin=SHOP)

    replay = send("/plain/", key=key, Origin=OTHER)

    assert replay["Idempotent-Replayed"] == "true"
    assert replay["Access-Control-Allow-Origin"] == OTHER
