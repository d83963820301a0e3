"""Security row S18: bodies made to be expensive, or too deep to be walked; and keys likewise."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from django_idempotency.exceptions import KeyInvalid
from django_idempotency.keys import KeyRules, parse_key
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key

ITEMS = 1_200_000  # in 2.4 MB: what Django takes unless told otherwise
FORM = "application/x-www-form-urlencoded"
NUMBERS = ",".join(["1"] * ITEMS)
COSTLY = {
    "wide": ("application/json", f'{{"sku":"tea","x":[{NUMBERS}]}}'),
    "wide and deep": ("application/json", f'{{"sku":"tea","x":{"[" * 300}{NUMBERS}{"]" * 300}}}'),
    "pairs": (FORM, "&".join(["="] * ITEMS)),
}


@pytest.mark.parametrize("shape", COSTLY)
def test_s18_protection_does_not_multiply_the_cost_of_a_body(send: Any, shape: str) -> None:
    """S18: seconds of CPU, whatever its shape: naming all its fields would take a minute."""
    kind, body = COSTLY[shape]

    began = time.thread_time()
    bare = send("/unprotected/", body, content_type=kind).status_code
    without = time.thread_time() - began
    statuses = [send("/plain/", body, key=new_key(), content_type=kind).status_code]
    took = time.thread_time() - began - without

    assert statuses == [bare]
    assert took < 10 * without + 0.5, (took, without)


@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
@pytest.mark.parametrize("mode", ["fields", "body"])
@pytest.mark.parametrize("nest", ["[{}]", '{{"y":{}}}'])
def test_s18_a_body_that_the_view_can_read_is_never_too_deep(
    send: Any, settings: Any, way: str, mode: str, nest: str
) -> None:
    """S18: an order is placed and its retry replayed, however deep; what cannot be kept is not."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": mode}
    left, right = nest.format("|").split("|")
    for depth in (10, 300, 500, 700):
        body, key = f'{{"sku":"tea","x":{left * depth}1{right * depth}}}', new_key()

        first, retry = (send(way, body, key=key) for _ in range(2))
        refused = send(way, body.replace("tea", "oil"), key=key)

        assert (first.status_code, refused.status_code) == (201, 422), depth
        assert retry["Idempotent-Replayed"] == "true"
        record = json.loads(IdempotencyKey.objects.get(key=key).request_record)
        assert "@path" in record["fields"]
        assert depth > 10 or "sku" in record["fields"]
        assert depth > 10 or ("body" in record) == (mode == "body")
    assert Order.objects.count() == 4


REPEATED = [";a", '; a="\\""', ";a=:AAAA", ';a=%"%41', ';a="x%"', ";a=1.1", ";*", ' "', " "]


@pytest.mark.parametrize("part", REPEATED, ids=range(len(REPEATED)))
@pytest.mark.parametrize("before", ['"k"', '"k";', "k", '"'], ids=["key", "and", "bare", "open"])
def test_s7_no_key_takes_long_to_be_refused(before: str, part: str) -> None:
    """S7: the grammar is read without going back and forth: 60 kB in a moment."""
    header = before + part * (60_000 // len(part)) + "!"

    began = time.thread_time()
    with pytest.raises(KeyInvalid):
        parse_key(header, KeyRules())

    assert time.thread_time() - began < 0.5
