"""``raise Undone(response)``: an answer that decides nothing."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from django.db import connection
from django.http import HttpResponse
from rest_framework.response import Response

from django_idempotency import Undone
from django_idempotency.models import IdempotencyKey
from tests.conformance.test_first_and_replay import every_way
from tests.orders.models import Order
from tests.sender import new_key


def shown_again(request: Any, order: Order) -> None:
    if order.qty > 5:
        raise Undone(HttpResponse("at most five", status=200))


@every_way
def test_an_undone_answer_is_given_and_not_kept(send: Any, after: Any, way: str) -> None:
    """The client reads it, its row is gone, and the corrected request uses the key."""
    key = new_key()
    after(shown_again)

    first = send(way, {"sku": "tea", "qty": 9}, key=key)
    assert (first.status_code, first.content) == (200, b"at most five")
    assert "Idempotent-Replayed" not in first
    assert first["Idempotency-Key"] == key
    assert not Order.objects.exists()

    assert send(way, {"sku": "tea", "qty": 5}, key=key).status_code == 201
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.get().failure_count == 1


@every_way
def test_without_a_key_it_is_given_too(send: Any, after: Any, way: str) -> None:
    """A view need not know whether its client sent a key; ATOMIC_REQUESTS undoes its row."""
    after(shown_again)

    assert send(way, {"sku": "tea", "qty": 9}).content == b"at most five"
    assert Order.objects.exists() != connection.settings_dict["ATOMIC_REQUESTS"]


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/", "/function/"])
def test_it_takes_a_response_of_rest_framework(send: Any, after: Any, way: str) -> None:
    """Which its view renders, as any other."""

    def wrong(request: Any, order: Order) -> None:
        raise Undone(Response({"qty": "too many"}, status=400))

    after(wrong)
    response = send(way, key=new_key())

    assert (response.status_code, response.json()) == (400, {"qty": "too many"})
    assert not Order.objects.exists()


def test_where_nothing_is_protected_it_says_what_to_do(send: Any, after: Any) -> None:
    """As any exception it ends in a 500, and its text is the cure."""
    send.client.raise_request_exception = True
    after(shown_again)

    with pytest.raises(Undone, match=r"not protected.*IdempotentMixin.*@idempotent.*or return"):
        send("/unprotected/", {"sku": "tea", "qty": 9})


@pytest.mark.parametrize(
    "answer",
    [None, "page", {"qty": "too many"}, 400, HttpResponse, requests.Response()],
    ids=["None", "str", "dict", "int", "class", "another library's"],
)
def test_it_takes_nothing_but_a_response(answer: Any) -> None:
    """A form or a dict fails where it is raised, not when it should be sent."""
    with pytest.raises(TypeError, match=r"takes the response .*, not [\w ]+: raise Undone\(render"):
        Undone(answer)


@every_way
def test_no_setting_makes_it_final(send: Any, after: Any, settings: Any, way: str) -> None:
    """STORE_RAISED_4XX keeps what a view raises; this it does not."""
    settings.IDEMPOTENCY = {"STORE_RAISED_4XX": True, "STORE_5XX": True}
    key = new_key()

    def refused(request: Any, order: Order) -> None:
        if order.qty > 5:
            raise Undone(HttpResponse(status=400))

    after(refused)
    assert send(way, {"sku": "tea", "qty": 9}, key=key).status_code == 400
    assert send(way, {"sku": "tea", "qty": 5}, key=key).status_code == 201
    assert Order.objects.count() == 1
