"""Rows H1-H4 of the specification on the wire: header lines as a server really sends them."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from django.http import HttpResponse, JsonResponse

from tests.conformance.test_first_and_replay import every_way
from tests.orders.models import Order
from tests.sender import ROWS, new_key

every_kind = pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
Line = tuple[str, str]

# What may differ between a first answer and its replay.
OF_THE_SERVER = {"date", "server", "connection"}
OF_A_REPLAY = {"Idempotent-Replayed", "X-Content-Type-Options"}


def post(server: Any, way: str, key: str, **headers: str) -> tuple[int, list[Line], bytes]:
    """(status, header lines in their order, body) of one order."""
    client = http.client.HTTPConnection(server.thread.host, server.thread.port, timeout=10)
    try:
        sent = {"Content-Type": "application/json", "Idempotency-Key": key, **headers}
        client.request("POST", way, json.dumps(ROWS), sent)
        response = client.getresponse()
        lines = [line for line in response.getheaders() if line[0].lower() not in OF_THE_SERVER]
        return response.status, lines, response.read()
    finally:
        client.close()


def lines_of(lines: list[Line], name: str) -> list[str]:
    return [value for found, value in lines if found.lower() == name.lower()]


@every_kind
def test_h1_each_header_line_is_replayed_as_it_was(live_server: Any, after: Any, way: str) -> None:
    """H1: lists in one line stay whole, values beyond ASCII stay encoded, names keep their case."""
    headers = {
        "Link": '</a,b>; rel="up", </c>; rel="next"',
        "ETag": 'W/"a,b"',
        "Cache-Control": "private, max-age=60",
        "Warning": '299 - "one, two", 299 - "three"',
        "Content-Disposition": 'attachment; filename="a,b;c.json"',
        "X-Name": "Zoë",
        "x-lower-CASE": " kept as it is",
        "X-Empty": "",
    }
    after(lambda request, order: JsonResponse({"id": order.pk}, status=201, headers=headers))
    key = new_key()

    status, first, body = post(live_server, way, key)
    again, replay, same = post(live_server, way, key)

    assert (status, again, body) == (201, 201, same)
    assert lines_of(first, "Link") == [headers["Link"]]
    assert ("Idempotent-Replayed", "true") in replay
    assert sorted(line for line in replay if line[0] not in OF_A_REPLAY) == sorted(
        line for line in first if line[0] not in OF_A_REPLAY
    )


@every_kind
def test_h1_h2_what_a_response_can_repeat(live_server: Any, after: Any, way: str) -> None:
    """H1, H2: Django's response holds one line a name and repeats only cookies: those are not kept.

    A view that sets a name again, in whatever case, replaces it, in the first answer as in the
    replay; what it adds to a list with ``patch_vary_headers`` and the like stays one list.
    """

    def behave(request: Any, order: Order) -> HttpResponse:
        response = HttpResponse(b"ok", status=201)
        response["X-Twice"] = "one"
        response["x-twice"] = "two"
        response.headers.setdefault("X-Twice", "three")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    after(behave)
    key = new_key()

    _, first, _ = post(live_server, way, key)
    _, replay, _ = post(live_server, way, key)

    assert len([v for v in lines_of(first, "Set-Cookie") if v[0] in "ab"]) == 2
    assert lines_of(replay, "Set-Cookie") == []
    assert lines_of(first, "X-Twice") == lines_of(replay, "X-Twice") == ["two"]


@every_way
def test_h1_the_dropped_headers_are_a_setting(
    send: Any, after: Any, settings: Any, way: str
) -> None:
    """H1, ``DROP_HEADERS``: names and patterns in any case; what is not listed is replayed."""
    settings.IDEMPOTENCY = {"DROP_HEADERS": ["x-payment-id", "X-Internal-*"]}
    headers = {"X-Payment-Id": "p1", "x-internal-node": "n1", "Server-Timing": "db;dur=1"}

    def behave(request: Any, order: Order) -> HttpResponse:
        response = JsonResponse({}, headers=headers)
        response.set_cookie("session", "secret")  # is no header until it is sent
        return response

    after(behave)
    key = new_key()
    first, retry = send(way, key=key), send(way, key=key)

    assert all(name in first for name in headers)
    assert retry["Idempotent-Replayed"] == "true"
    assert "X-Payment-Id" not in retry
    assert "X-Internal-Node" not in retry
    assert retry["Server-Timing"] == "db;dur=1"
    assert not retry.cookies


@every_kind
def test_h4_lengths_are_right_on_the_wire(live_server: Any, after: Any, way: str) -> None:
    """H4: one Content-Length, of the body that follows, first and replayed."""
    after(lambda request, order: HttpResponse("Zoë" * 100, status=201))
    key = new_key()

    for _ in range(2):
        _, lines, body = post(live_server, way, key)
        assert lines_of(lines, "Content-Length") == [str(len(body))]
        assert body == ("Zoë" * 100).encode()
