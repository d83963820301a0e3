"""Row M5 of the specification where nothing but the media type differs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.orders.models import Order
from tests.sender import new_key


@pytest.mark.parametrize("way", ["/plain/", "/class/"])
@pytest.mark.parametrize(
    ("body", "first", "second"),
    [
        (b"sku", "text/plain", "application/octet-stream"),
        (b'{"sku":"tea"}', "application/json", "application/vnd.shop+json"),
        (b"sku", "text/plain", ""),
    ],
)
def test_m5_a_media_type_alone_is_a_difference(
    send: Any, way: str, body: bytes, first: str, second: str
) -> None:
    """M5: the same bytes in another type are another request; in the same type a retry."""
    key = new_key()

    types = (first, first, second)
    statuses = [send(way, body, key=key, content_type=kind).status_code for kind in types]

    assert statuses == [201, 201, 422]
    assert Order.objects.count() == 1
