"""The script on the page on browsers, in a browser: one order, however often it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from playwright.sync_api import Page, Route
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin
from tests.browser import conftest
from tests.documents import DOCS, blocks, serve
from tests.orders.models import Order

LOOP, FORM = blocks(DOCS / "browsers.md", "js")
# What it would wait, instead of waiting.
CLOCK = """
window.pauses = [];
const later = window.setTimeout;
window.setTimeout = (act, pause, ...rest) => {
  if (!(pause >= 1000)) return later(act, pause, ...rest); // Playwright's own
  window.pauses.push(pause);
  return later(act, 0);
};
"""
# How many clicks have been answered.
COUNT = """
window.answered = 0;
const send = placeOrder;
window.placeOrder = (...given) => send(...given).finally(() => { window.answered += 1; });
"""
FIELDS = '<form><input name="csrfmiddlewaretoken" value="{}"><input name="sku" value="tea">'


class Orders(IdempotentMixin, APIView):
    idempotency_required = True
    failures: list[Callable[[], Any]] = []  # what the next executions end with

    def post(self, request: Any) -> Any:
        order = Order.objects.create(sku=request.data["sku"])
        if self.failures:
            self.failures.pop(0)()
        return Response({"id": order.pk}, status=201)


def shop(request: HttpRequest) -> HttpResponse:
    return HttpResponse(FIELDS.format(get_token(request)) + "<button>Order</button></form>")


@pytest.fixture
def opened(page: Page, live_server: Any, sign_in: conftest.SignIn, settings: Any) -> Page:
    """The shop's page, as a signed-in user has it, with the script of the documents in it."""
    sign_in()
    serve(
        settings,
        path("shop/", shop),
        path("orders/", Orders.as_view()),
        path("", include("example_project.urls")),
    )
    settings.SECURE_CSP = {}
    page.goto(f"{live_server.url}/shop/")
    page.evaluate(CLOCK)
    page.add_script_tag(content=LOOP + FORM)
    return page


@pytest.fixture
def failed_loads(complaints: list[str]) -> Iterator[None]:
    """Answers that are no success are what these tests are about; the browser logs each."""
    yield
    complaints[:] = [said for said in complaints if "Failed to load resource" not in said]


def crash() -> None:
    raise RuntimeError


def pauses(page: Page) -> list[float]:
    """Seconds that the script would have waited."""
    return [pause / 1000 for pause in page.evaluate("pauses")]


@pytest.mark.usefixtures("failed_loads")
def test_failures_and_lost_answers_leave_one_order(opened: Page) -> None:
    """A 500, an answer that never arrives, then the replay of it."""
    Orders.failures = [crash]
    sent: list[tuple[str, str]] = []

    def watch(route: Route) -> None:
        sent.append((route.request.headers["idempotency-key"], route.request.post_data or ""))
        if len(sent) == 2:
            assert route.fetch().status == 201  # it was carried out, and nobody hears of it
            route.abort("connectionreset")
        else:
            route.continue_()

    opened.route("**/orders/", watch)
    answer = opened.evaluate(
        """async () => {
            const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
            const answer = await placeOrder({sku: "tea"}, crypto.randomUUID(), token);
            return [answer.status, answer.headers.get("Idempotent-Replayed")];
        }"""
    )

    assert answer == [201, "true"]
    assert len(sent) == 3
    assert len(set(sent)) == 1  # the same key and the same body each time
    assert Order.objects.count() == 1
    first, second = pauses(opened)
    assert 1 <= first < 2 <= second < 3


@pytest.mark.usefixtures("failed_loads")
def test_it_waits_as_long_as_it_is_told_and_gives_up(opened: Page) -> None:
    """Five attempts, however long the pauses; then it says that it does not know."""

    def busy(route: Route) -> None:
        route.fulfill(status=409, headers={"Retry-After": "60"})

    opened.route("**/orders/", busy)
    said = opened.evaluate("placeOrder({}, 'a key', '').catch((error) => error.message)")

    assert said == "No answer. The order may exist: keep the key."
    assert [60 <= pause < 61 for pause in pauses(opened)] == [True] * 4


@pytest.mark.usefixtures("failed_loads")
def test_a_conflict_is_an_answer(opened: Page) -> None:
    """It is not sent again."""
    opened.route("**/orders/", lambda route: route.fulfill(status=422))

    assert opened.evaluate("placeOrder({}, 'a key', '').then((answer) => answer.status)") == 422
    assert pauses(opened) == []


@pytest.mark.usefixtures("failed_loads")
def test_the_form_makes_a_new_key_when_an_order_is_placed(opened: Page) -> None:
    """Two clicks are one order; the click after the answer is another."""
    opened.add_script_tag(content=COUNT)
    keys: list[str] = []
    opened.on("request", lambda request: keys.append(request.headers["idempotency-key"]))

    opened.evaluate(
        "const button = document.querySelector('button'); button.click(); button.click()"
    )
    opened.wait_for_function("answered === 2")
    twins = set(keys)
    assert Order.objects.count() == len(twins) == 1
    opened.click("button")
    opened.wait_for_function("answered === 3")

    assert len(set(keys)) == 2
    assert Order.objects.count() == 2
