"""What a reader copies from the documents runs, and does what stands beside it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django import forms
from django.db import IntegrityError, connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from tests.documents import DOCS, PAGES, README, TYPED, blocks, example, run, serve, shop, templates
from tests.orders.models import Order
from tests.orders.views import OrderSerializer, OrderViewSet
from tests.sender import Sender, new_key

__all__ = ["shop"]  # a fixture

pytestmark = pytest.mark.usefixtures("shop")


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        if page not in TYPED
        for number, block in enumerate(blocks(page, "python"))
    ]


@pytest.mark.parametrize("block", python_blocks())
def test_every_python_example_runs(block: str) -> None:
    """What a reader copies can be imported as it stands."""
    assert run(block)


def requests_of_the_readme() -> Iterator[tuple[str, str, dict[str, Any], int, bool]]:
    """(path, key, body, status, replayed) of each request in the README's proof."""
    (proof,) = blocks(README, "http")
    form = re.compile(
        r"POST (?P<path>\S+)\nIdempotency-Key: (?P<key>\S+)\n(?P<body>\{.*\})\n"
        r"→ (?P<status>\d+)(?P<replayed> Idempotent-Replayed: true)?"
    )
    for request in proof.strip().split("\n\n"):
        found = form.fullmatch(request)
        assert found is not None, request
        body = json.loads(found["body"])
        yield found["path"], found["key"], body, int(found["status"]), bool(found["replayed"])


def test_the_three_requests_of_the_readme_get_the_answers_it_shows(
    send: Sender, settings: Any
) -> None:
    """201, the same again with the marker, 422; one order is placed."""
    router = SimpleRouter()
    router.register("orders", run(blocks(README, "python")[0])["OrderViewSet"])
    serve(settings, path("", include(router.urls)))
    shown = list(requests_of_the_readme())

    answers = [send(where, body, key=key) for where, key, body, _, _ in shown]

    seen = [(answer.status_code, "Idempotent-Replayed" in answer) for answer in answers]
    assert seen == [(201, False), (201, True), (422, False)]
    assert seen == [(status, replayed) for *_, status, replayed in shown]
    assert answers[1].content == answers[0].content
    assert Order.objects.count() == 1


def test_the_decorated_view_of_the_readme_places_one_order(send: Sender, settings: Any) -> None:
    """Without a key 400; with one, twice, a single order."""
    block = example(README, "place_order")
    serve(settings, path("place/", run(block)["place_order"]))
    form: Any = {"body": "sku=tea", "content_type": "application/x-www-form-urlencoded"}
    key = new_key()

    assert send("/place/", **form).status_code == 400
    assert [send("/place/", **form, key=key).status_code for _ in range(2)] == [201, 201]
    assert Order.objects.count() == 1


def test_the_form_of_the_views_page_keeps_its_key(
    settings: Any, send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key, the same one on the page with the mistake, one order for two clicks."""

    class OrderForm(forms.ModelForm):  # type: ignore[type-arg]
        class Meta:
            model = Order
            fields = ("sku", "qty")

        def save(self, commit: bool = True) -> str:
            return f"/thanks/{super().save(commit).pk}/"

    monkeypatch.setattr(sys.modules["shop.forms"], "OrderForm", OrderForm)
    page = "<input name=idempotency_key value={{ idempotency_key }}>{{ form.errors }}"
    templates(settings, {"order.html": page})
    block = example(DOCS / "views.md", "Undone(")
    serve(settings, path("order/", run(block)["order"]))

    def post(key: str, qty: str) -> Any:
        return send.client.post("/order/", {"idempotency_key": key, "sku": "tea", "qty": qty})

    def key_in(answer: Any) -> str:
        (key,) = re.findall(r"value=([\w-]+)", answer.content.decode())
        return str(key)

    keys = [key_in(send.client.get("/order/")) for _ in range(2)]
    assert keys[0] != keys[1]
    mistaken = post(keys[0], "many")
    assert (mistaken.status_code, key_in(mistaken)) == (200, keys[0])
    assert "errorlist" in mistaken.content.decode()

    clicks = [post(keys[0], "2") for _ in range(2)]

    assert [(click.status_code, click["Location"]) for click in clicks] == [
        (302, f"/thanks/{Order.objects.get().pk}/")
    ] * 2
    assert post("", "2").json()["code"] == "idempotency_key_invalid"
    assert post(keys[0], "3").json()["code"] == "idempotency_key_reused"
    assert Order.objects.count() == 1


def test_a_visitor_of_the_tenants_view_is_turned_away(send: Sender, settings: Any) -> None:
    """By its permission, before the hook asks for a tenant that is not there."""
    block = example(DOCS / "views.md", "tenant_id")
    view = run(block)["TenantOrderViewSet"]
    serve(settings, path("orders/", view.as_view({"post": "create"})))

    assert send("/orders/", key=new_key()).status_code == 401
    assert not Order.objects.exists()


def test_the_readme_names_the_apps_to_install(settings: Any) -> None:
    """Step 1 is what these tests themselves run with."""
    block = example(README, "INSTALLED_APPS")

    assert set(run(block)["INSTALLED_APPS"]) <= set(settings.INSTALLED_APPS)


def test_sqlite_gets_its_option_before_the_tables_are_made() -> None:
    """In the other order the first command of a newcomer fails."""
    for page in (README, DOCS / "quickstart.md"):
        text = page.read_text()
        assert 0 < text.index("transaction_mode") < text.index("manage.py migrate")


def test_a_refused_row_becomes_the_answer_of_the_quickstart(send: Sender, settings: Any) -> None:
    """Caught in a transaction of its own: 409, final; what was caught has left nothing."""
    view = run(example(DOCS / "quickstart.md", "IntegrityError"))["OrderViewSet"]

    class Refused(OrderSerializer):
        def create(self, validated_data: Any) -> Any:
            order = Order.objects.create(**validated_data)
            return Order.objects.create(pk=order.pk)

    serve(settings, path("orders/", view.as_view({"post": "create"}, serializer_class=Refused)))
    key = new_key()

    answers = [send("/orders/", key=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert ["Idempotent-Replayed" in answer for answer in answers] == [False, True]
    assert not Order.objects.exists()


@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "caught without atomic()"])
def test_a_refused_row_without_a_transaction_of_its_own(
    send: Sender, after: Any, swallow: bool
) -> None:
    """500 either way, and the key stays free, as the Quickstart says."""

    def refuse(request: Any, order: Order) -> Any:
        try:
            Order.objects.create(pk=order.pk)
        except IntegrityError:
            if not swallow:
                raise
            return HttpResponse(status=409)

    after(refuse)
    key = new_key()
    answers = [send("/plain/", key=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [500, 500]
    assert not any("Idempotent-Replayed" in answer for answer in answers)
    assert not Order.objects.exists()


def test_the_pytest_example_of_the_testing_page_passes(
    client: Any, settings: Any, transactional_db: None
) -> None:
    """The others run in a project of their own."""
    serve(settings, path("orders/", OrderViewSet.as_view({"post": "create"})))

    run(example(DOCS / "testing.md", "import pytest"))["test_a_retry_places_no_second_order"](
        client
    )

    assert Order.objects.count() == 1


def test_the_figures_of_the_testing_page_are_those_of_this_database(send: Sender) -> None:
    """Queries with a key, of a view that runs one by itself."""
    rows = re.findall(
        r"^\| (?:first|replay)[^|]*\| (\d+) \| (\d+) \| (\d+) \|$",
        (DOCS / "testing.md").read_text(),
        re.MULTILINE,
    )
    column = ("postgresql", "sqlite", "mysql").index(connection.vendor)
    first, again = (int(row[column]) for row in rows)
    send("/apiview/", key=new_key())  # what is cached per process is there
    key, counted = new_key(), []
    for body in (None, None, {"sku": "other"}):
        with CaptureQueriesContext(connection) as captured:
            send("/apiview/", body, key=key)
        counted.append(len(captured))

    assert counted == [1 + first, again, again]
