"""Security rows S5-S9 and S23: hostile keys, one key for two requests, what a log tells."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import include, path, re_path
from rest_framework.versioning import AcceptHeaderVersioning

from django_idempotency.content import salt_of
from django_idempotency.fingerprint import content_digest, field_digests
from django_idempotency.models import IdempotencyKey
from django_idempotency.protocol import key_id
from tests.orders.models import Order
from tests.orders.views import OrderAPIView, plain_function
from tests.sender import Sender, new_key

FORM = "application/x-www-form-urlencoded"
LIMIT = 1_048_576  # bytes of an answer that is read


class Versioned(OrderAPIView):
    versioning_class = AcceptHeaderVersioning
    default_version = "1"
    allowed_versions = ["1", "2"]


urlpatterns = [
    path("s8/", Versioned.as_view()),
    path("s8/other/", Versioned.as_view()),
    re_path(r"^line/(?s:.+)$", plain_function),
    path("", include("tests.urls")),
]
pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def user_send(send: Sender) -> Sender:
    send.client.force_login(get_user_model().objects.create_user("alice"))
    return send


def nothing_ran() -> bool:
    return not Order.objects.exists() and not IdempotencyKey.objects.exists()


def raw(server: Any, *lines: bytes, body: bytes = b'{"sku":"tea","qty":1}') -> bytes:
    """What a server says to bytes that no client library would send; b"" = it hung up."""
    head = [b"POST /plain/ HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    head += [b"Content-Length: %d" % len(body), b"Connection: close", *lines]
    with socket.create_connection((server.thread.host, server.thread.port), timeout=10) as line:
        try:
            line.sendall(b"\r\n".join([*head, b"", body]))
            answer = b""
            while (chunk := line.recv(65_536)) and len(answer) < LIMIT:
                answer += chunk
        except ConnectionError:
            return b""
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- keys


@pytest.mark.parametrize("key", ["k", "k" * 15, "k" * 256, '"' + "k" * 256 + '"', '"k"'])
def test_s5_a_weak_or_endless_key_is_refused(send: Any, key: str) -> None:
    """S5: of a visitor: 15 characters are too few, 256 too many; nothing runs."""
    assert send("/plain/", key=key).status_code == 400
    assert nothing_ran()


@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
def test_s5_a_site_may_ask_for_long_keys(user_send: Any, settings: Any, way: str) -> None:
    """S5, ``KEY_MIN_LENGTH``: of users, too; the default takes one character."""
    assert user_send("/plain/", key="k").status_code == 201
    settings.IDEMPOTENCY = {"KEY_MIN_LENGTH": 16}

    for key in ("k", "k" * 15, '"' + "k" * 15 + '"'):
        refused = user_send(way, key=key)
        assert refused.status_code == 400
        assert refused.json()["type"].endswith("/key-invalid")
        assert "16" in refused.json()["detail"]
    assert user_send(way, key="k" * 16).status_code == 201
    assert Order.objects.count() == 2


def test_s6_no_spelling_of_a_key_makes_a_second_row(live_server: Any) -> None:
    """S6: doubled headers, quotes and spaces: 400 or the replay."""
    key = new_key().encode()
    assert status_of(raw(live_server, b"Idempotency-Key: " + key)) == 201
    spellings = {
        201: [
            [b'Idempotency-Key: "%b"' % key],
            [b"Idempotency-Key:   %b  " % key],
            [b'Idempotency-Key: "%b" ;a=1' % key],
            [b'idempotency-key:"%b";a' % key],
        ],
        400: [
            [b"Idempotency-Key: " + key, b"Idempotency-Key: " + key],
            [b"Idempotency-Key: " + key, b"Idempotency-Key: other-" + key],
            [b"Idempotency-Key: %b,%b" % (key, key)],
            [b"Idempotency-Key: %b %b" % (key, key)],
            [b"Idempotency-Key: '%b'," % key],
            [b'Idempotency-Key: ""%b""' % key],
        ],
    }
    spellings[400].append(spellings[201].pop(2))  # no space may stand before a parameter

    for status, variants in spellings.items():
        for lines in variants:
            answer = raw(live_server, *lines)
            assert status_of(answer) == status, lines
            assert (b"Idempotent-Replayed: true" in answer) is (status == 201), lines
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.parametrize(
    "value",
    [
        b"order-0123456789\x00",
        b'"order-0123456789\x00"',
        b"order-0123456789\xff\xfe",
        "order-0123456789-ключ".encode(),
        b"k" * 256,
        b"k" * 16_384,
        b"k" * 70_000,
    ],
    ids=["nul", "quoted-nul", "latin", "utf8", "256", "16k", "70k"],
)
def test_s7_no_bytes_break_the_server(live_server: Any, value: bytes) -> None:
    """S7: a raw socket: a 4xx and never a 500, or the server hangs up; nothing runs."""
    answer = raw(live_server, b"Idempotency-Key: " + value)

    assert not answer or 400 <= status_of(answer) < 500
    assert answer or len(value) > 65_536
    assert nothing_ran()


# -- one key, another request


OTHERS: dict[str, dict[str, Any]] = {
    "method": {"method": "PATCH"},
    "path": {"path": "/s8/other/"},
    "query": {"path": "/s8/?notify=1"},
    "media type": {"body": '{"sku": "tea", "qty": 1}', "content_type": "application/foo+json"},
    "body": {"body": {"sku": "tea", "qty": 2}},
    "header": {"X_Warehouse": "two"},
    "version": {"Accept": "application/json; version=2"},
}


@pytest.mark.parametrize("flipped", OTHERS)
def test_s8_each_component_counts(send: Any, settings: Any, flipped: str) -> None:
    """S8: any one of them flipped: 422, one row, and nothing of the first response."""
    settings.IDEMPOTENCY = {"FINGERPRINT_HEADERS": ["X-Warehouse"]}
    key = new_key()
    usual = {"X_Warehouse": "one", "Accept": "application/json; version=1"}
    first = send("/s8/", key=key, **usual)
    assert first.status_code == 201
    assert send("/s8/", key=key, **usual)["Idempotent-Replayed"] == "true"
    changed = dict(OTHERS[flipped])

    refused = send(changed.pop("path", "/s8/"), key=key, **{**usual, **changed})

    assert refused.status_code == 422
    assert first.content not in refused.content
    assert "Idempotent-Replayed" not in refused
    assert Order.objects.count() == 1


# (first, second): equal when their parts are joined without lengths
SPLITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "headers": ({"X_A": "ab", "X_B": "c"}, {"X_A": "a", "X_B": "bc"}),
    "media type and header": (
        {"content_type": "text/x", "X_A": "y", "body": "1"},
        {"content_type": "text/xy", "X_A": "", "body": "1"},
    ),
    "query": ({"path": "/plain/?a=bc"}, {"path": "/plain/?ab=c"}),
    "form": (
        {"body": "a=bc", "content_type": FORM},
        {"body": "ab=c", "content_type": FORM},
    ),
    "json numbers": ({"body": '{"x":[1.5,12.5]}'}, {"body": '{"x":[1.51,2.5]}'}),
    "media type and its parameter": (
        {"content_type": "text/x; a=bc", "body": "1"},
        {"content_type": "text/x; ab=c", "body": "1"},
    ),
}


@pytest.mark.parametrize("split", SPLITS)
def test_s9_two_splits_of_one_text_are_two_requests(send: Any, settings: Any, split: str) -> None:
    """S9: each part has its length before it, so no two requests meet by where they are cut."""
    settings.IDEMPOTENCY = {"FINGERPRINT_HEADERS": ["X-A", "X-B"]}
    first, second = SPLITS[split]
    key = new_key()
    assert send(**{"path": "/plain/", "key": key, **first}).status_code == 201

    assert send(**{"path": "/plain/", "key": key, **second}).status_code == 422
    assert send(**{"path": "/plain/", "key": key, **first})["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_s9_every_digest_tells_its_parts_apart() -> None:
    """S9: parts of a request; scope and key; the salt of a record; name and value of a field."""
    assert content_digest([b"ab", b"c"]) != content_digest([b"a", b"bc"])
    assert content_digest([b"ab", b""]) != content_digest([b"ab"])
    assert content_digest([b"1:a"]) != content_digest([b"", b"a"])
    key = "0123456789abcdef"
    left, right = key_id("user:1", "2" + key), key_id("user:12", key)
    assert left.bytes[:8] != right.bytes[:8]  # of the key
    assert left.bytes[8:] != right.bytes[8:]  # of the pair
    assert key_id("user:1", key) != key_id("user:2", key)
    assert salt_of("user:1", "2" + key) != salt_of("user:12", key)
    (one,) = field_digests([("ab", "c")], secret=b"s", salt=b"t").values()
    (other,) = field_digests([("a", "bc")], secret=b"s", salt=b"t").values()
    assert one != other


# -- logs


INJECTED = "outcome=executed code=- key=00000000"
HOSTILE_KEYS = [
    f'"0123456789%0a{INJECTED}"',
    f'"0123456789%0d%0aINFO django_idempotency {INJECTED}"',
    '"0123456789 %(message)s {0} %s %n"',
    '"broken-0123456789%0a',
    "x" * 300,
]


@pytest.mark.parametrize("way", ["/plain/", "/apiview/", "/line/a%0Aidempotency%20outcome=b/"])
def test_s23_a_request_is_one_line_and_no_key(send: Any, caplog: Any, way: str) -> None:
    """S23: neither the key nor a line of its making, in the log or in a refusal's body."""
    caplog.set_level(logging.INFO)

    for key in HOSTILE_KEYS:
        caplog.clear()
        answers = [send(way, key=key), send(way, {"sku": "other"}, key=key)]

        value = key.strip('"')
        lines = [r.getMessage() for r in caplog.records if r.name == "django_idempotency"]
        assert len(lines) == 2
        for line in lines:
            assert line.splitlines() == [line]
            assert line.count(" outcome=") == 1
            assert value not in line
        assert answers[1].status_code in {400, 422}
        assert value not in answers[1].content.decode()


def test_s23_an_error_does_not_spell_the_key(send: Any, after: Any, caplog: Any) -> None:
    """S23: not even in the traceback of a store that fails."""
    key = new_key()
    send("/plain/", key=key)
    Order.objects.all().delete()
    IdempotencyKey.objects.all().delete()
    after(lambda request, order: IdempotencyKey.objects.all().delete() and None)

    assert send("/plain/", key=key).status_code == 500

    assert "TransactionManagementError" in caplog.text
    assert key not in caplog.text
    assert not Order.objects.exists()
