"""What the page on browsers says of forms, their refusals and pages as answers is so."""

from __future__ import annotations

import re
import sys
import uuid
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from django_idempotency import idempotent
from django_idempotency.models import IdempotencyKey
from tests.documents import DOCS, blocks, example, run, serve, shop, templates
from tests.orders.models import Order

__all__ = ["shop"]  # a fixture

PAGE = DOCS / "browsers.md"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}  # as browsers ask
CHECKOUT = example(PAGE, 'type="hidden"', "html")
REFUSED = example(PAGE, "problem.code", "html")
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')

pytestmark = pytest.mark.django_db(transaction=True)


def thanks(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(f"order {pk}")


def free(request: HttpRequest) -> HttpResponse:
    return HttpResponse("passed the CSRF check")


@idempotent(key_field="idempotency_key")
def plain_page(request: HttpRequest) -> HttpResponse:
    """An answer as people write it before they have read the page."""
    return run(example(PAGE, "def receipt"))["receipt"](request)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _site(shop: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    templates(
        settings, {"checkout.html": CHECKOUT, "receipt.html": CHECKOUT, "refused.html": REFUSED}
    )
    serve(
        settings,
        path("checkout/", run(example(PAGE, "def checkout"))["checkout"]),
        path("order/", run(example(PAGE, "def receipt"))["order"]),
        path("plain-page/", plain_page),
        path("thanks/<int:pk>/", thanks, name="thanks"),
        path("free/", free),
    )
    middleware = ModuleType("shop.middleware")
    vars(middleware).update(run(example(PAGE, "class RefusalPages")))
    monkeypatch.setitem(sys.modules, "shop.middleware", middleware)


@pytest.fixture
def refusal_pages(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "shop.middleware.RefusalPages"]


def form(**fields: str) -> dict[str, str]:
    return {"idempotency_key": str(uuid.uuid4()), "sku": "tea", **fields}


# -- forms


def test_a_form_is_sent_twice_and_places_one_order() -> None:
    """As its page was rendered: the hidden field has a key, and another one on each page."""
    browser = Client(enforce_csrf_checks=True)

    def shown() -> dict[str, str]:
        text = browser.get("/checkout/").content.decode()
        return dict(re.findall(r'name="(\w+)" value="([^"]+)"', text))

    first, second = shown(), shown()
    assert first["idempotency_key"] != second["idempotency_key"]

    clicks = [browser.post("/checkout/", {**first, "sku": "tea"}, headers=HTML) for _ in range(2)]

    order = Order.objects.get()
    assert [(click.status_code, click["Location"]) for click in clicks] == [
        (302, f"/thanks/{order.pk}/")
    ] * 2
    # Of another page the token may be another; it is not compared.
    again = {**second, "idempotency_key": first["idempotency_key"], "sku": "tea"}
    assert browser.post("/checkout/", again).headers["Idempotent-Replayed"] == "true"


def refusals(client: Client) -> dict[str, Any]:
    """{code: answer} of the mistakes that need no second request in flight."""
    sent = form()
    client.post("/checkout/", sent)
    answers = [
        client.post("/checkout/", {**sent, "sku": "coffee"}, headers=HTML),
        client.post("/checkout/", {"sku": "tea"}, headers=HTML),
        client.post("/checkout/", form(idempotency_key=""), headers=HTML),
        client.post("/checkout/", form(idempotency_key="two words"), headers=HTML),
    ]
    codes = ["key_reused", "key_missing", "key_invalid", "key_invalid"]
    return {
        f"{code}-{number}": a for number, (code, a) in enumerate(zip(codes, answers, strict=True))
    }


def test_a_refused_form_is_a_problem_whatever_its_browser_accepts(client: Client) -> None:
    """The code is one that the table lists."""
    listed = re.findall(r"^\| `idempotency_(\w+)` \|", PAGE.read_text(), re.MULTILINE)

    for name, answer in refusals(client).items():
        code = name.partition("-")[0]
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == f"idempotency_{code}"
        assert code in listed
    assert Order.objects.count() == 1


def test_the_middleware_shows_a_page_in_its_place(client: Client, refusal_pages: None) -> None:
    """With the status of the refusal, its own words, and the right length."""
    answers = refusals(client)

    for answer in answers.values():
        assert answer.status_code in {400, 422}
        assert answer["Content-Type"] == "text/html; charset=utf-8"
        assert int(answer["Content-Length"]) == len(answer.content)
        assert answer["Cache-Control"] == "no-store"
        assert 'href="/checkout/"' in answer.content.decode()
    assert "The first one counts." in answers["key_reused-0"].content.decode()
    assert "Idempotency key missing. " in answers["key_missing-1"].content.decode()


def test_a_script_still_gets_the_problem(client: Client, refusal_pages: None) -> None:
    """It asks for anything, or for JSON."""
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        answer = client.post("/checkout/", {"sku": "tea"}, headers=headers)
        assert answer.json()["code"] == "idempotency_key_missing"


def test_in_flight_the_page_says_to_reload(settings: Any) -> None:
    """And Retry-After stays, should something other than a person read it."""
    middleware = sys.modules["shop.middleware"].RefusalPages
    refusal = HttpResponse(
        b'{"code": "idempotency_in_progress", "status": 409}',
        status=409,
        content_type="application/problem+json",
        headers={"Retry-After": "1"},
    )
    request = HttpRequest()
    request.META["HTTP_ACCEPT"] = "text/html"

    answer = middleware(lambda request: refusal)(request)

    assert (answer.status_code, answer["Retry-After"]) == (409, "1")
    assert "Reload this page" in answer.content.decode()


# -- pages as answers


def signed_in(cookie: str) -> Client:
    """One session of the same user, with a CSRF cookie of its own."""
    user, _ = User.objects.get_or_create(username="reader")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    browser.cookies["csrftoken"] = cookie * 32
    return browser


def send_form(browser: Client, where: str, sent: dict[str, str]) -> Any:
    token = browser.cookies["csrftoken"].value
    return browser.post(where, {**sent, "csrfmiddlewaretoken": token})


def passes(browser: Client, answer: Any) -> bool:
    """Whether the form in this page can be sent."""
    (token,) = TOKEN.findall(answer.content.decode())
    return browser.post("/free/", {"csrfmiddlewaretoken": token}).status_code == 200


def test_a_stored_page_is_good_in_its_own_session_only() -> None:
    """Why the page says not to answer with one: each of its four statements."""
    here, elsewhere, sent = signed_in("a"), signed_in("b"), form()
    first, again = (send_form(here, "/plain-page/", sent) for _ in range(2))
    there = send_form(elsewhere, "/plain-page/", sent)

    assert again.content == first.content == there.content
    assert there["Idempotent-Replayed"] == "true"
    assert "csrftoken" not in again.cookies
    assert passes(here, again)
    assert not passes(elsewhere, there)
    (token,) = TOKEN.findall(first.content.decode())
    assert token.encode() in bytes(IdempotencyKey.objects.get().response_body or b"")


def test_a_stranger_who_knows_the_key_gets_the_page_of_a_visitor() -> None:
    """Clients without credentials share one space of keys."""
    visitor, stranger, sent = (Client(), Client(), form())
    answers = [browser.post("/plain-page/", sent) for browser in (visitor, stranger)]

    assert answers[1].content == answers[0].content


def test_a_rebuilt_page_is_good_in_each_session_and_stored_in_none() -> None:
    """The example: one order, fresh tokens, no body in the table."""
    here, elsewhere, sent = signed_in("a"), signed_in("b"), form()
    first = send_form(here, "/order/", sent)
    there = send_form(elsewhere, "/order/", sent)

    assert there["Idempotent-Replayed"] == "true"
    assert there.content != first.content
    assert passes(here, first)
    assert passes(elsewhere, there)
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.get().response_body is None


def test_the_redirect_of_the_checkout_is_all_that_is_stored(client: Client) -> None:
    """Which is why it may be replayed to any session of its user."""
    client.post("/checkout/", form())
    key = IdempotencyKey.objects.get()

    assert (key.response_status, bytes(key.response_body or b"")) == (302, b"")


def test_every_block_of_the_page_is_run_by_a_test() -> None:
    """Here or, those in JavaScript, in a browser."""
    assert {language: len(blocks(PAGE, language)) for language in ("python", "html", "js")} == {
        "python": 4,
        "html": 2,
        "js": 2,
    }
