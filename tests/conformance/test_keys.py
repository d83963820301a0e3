"""Rows K of the specification: what a key may look like."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils.html import escape

from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import ROWS, Sender, new_key

from .test_first_and_replay import every_way

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
LETTER_FIRST = "be03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def user_send(send: Sender) -> Sender:
    """Signed in: keys of strangers must be long, a user's may be short."""
    send.client.force_login(get_user_model().objects.create_user("alice"))
    return send


def assert_refused(response: Any, slug: str = "key-invalid") -> None:
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"].endswith(f"/{slug}")
    assert response.json()["status"] == 400
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


def raw_post(server: Any, *lines: tuple[str, bytes]) -> http.client.HTTPResponse:
    """POST an order with header lines exactly as given."""
    connection = http.client.HTTPConnection(server.thread.host, server.thread.port, timeout=10)
    body = json.dumps(ROWS).encode()
    try:
        connection.putrequest("POST", "/apiview/")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Connection", "close")
        for name, value in lines:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@every_way
def test_k1_a_quoted_key_is_stored_without_quotes(send: Any, way: str) -> None:
    """K1: accepted, the stored value has no quotes."""
    assert send(way, key=f'"{UUID}"').status_code == 201

    assert IdempotencyKey.objects.get().key == UUID
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("key", [UUID, LETTER_FIRST])
def test_k2_a_bare_key_is_accepted(send: Any, way: str, key: str) -> None:
    """K2, lenient: bare keys work, whether a digit or a letter comes first."""
    first, retry = send(way, key=key), send(way, key=key)

    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry["Idempotent-Replayed"] == "true"
    assert IdempotencyKey.objects.get().key == key
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("key", [UUID, LETTER_FIRST, "'abc'"])
def test_k2_strict_syntax_refuses_a_bare_key(send: Any, settings: Any, way: str, key: str) -> None:
    """K2, K5, strict: only the quoted form of the draft."""
    settings.IDEMPOTENCY = {"KEY_SYNTAX": "strict"}

    assert_refused(send(way, key=key))

    assert send(way, key=f'"{UUID}"').status_code == 201
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("forms", [('"{}"', "{}"), ("{}", '"{}"')])
def test_k3_both_spellings_of_a_value_are_one_key(
    send: Any, way: str, forms: tuple[str, str]
) -> None:
    """K3: one execution, whichever spelling comes first."""
    key = new_key()

    send(way, key=forms[0].format(key))
    retry = send(way, key=forms[1].format(key))

    assert retry["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.count() == 1


@every_way
def test_k4_escapes_are_decoded(user_send: Any, way: str) -> None:
    r"""K4: ``"a\"b\\c"`` is the key ``a"b\c``."""
    assert user_send(way, key=r'"a\"b\\c"').status_code == 201

    assert IdempotencyKey.objects.get().key == 'a"b' + "\\c"
    assert user_send(way, key=r'"a\"b\\c"')["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("key", ['"abc', r'"a\x"', '"a"x', '"', r'"a\"', '"a" "b"', '"a";'])
def test_k5_a_malformed_quoted_key_is_refused(user_send: Any, way: str, key: str) -> None:
    """K5: 400 and never ignored; no row, no record."""
    assert_refused(user_send(way, key=key))


@every_way
@pytest.mark.parametrize("parameters", [";v=1", "; a; b=?0", ';s="x;y"', ";t=tok/en", ";n=-1.5"])
def test_k6_parameters_are_ignored(user_send: Any, way: str, parameters: str) -> None:
    """K6: ``"k";v=1`` is the key ``k``."""
    assert user_send(way, key='"k"' + parameters).status_code == 201

    assert IdempotencyKey.objects.get().key == "k"
    assert user_send(way, key='"k"')["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize("key", ["", " ", "   ", '""', ' "" '])
def test_k7_an_empty_key_is_invalid_not_missing(user_send: Any, way: str, key: str) -> None:
    """K7: refused even where keys are optional."""
    assert_refused(user_send(way, key=key))


@every_way
@pytest.mark.parametrize("key", ["", '""'])
def test_k7_an_empty_key_is_invalid_where_one_is_required(
    user_send: Any, settings: Any, way: str, key: str
) -> None:
    """K7: sent and empty is not the same as not sent."""
    settings.IDEMPOTENCY = {"REQUIRED": True}

    assert_refused(user_send(way, key=key))


@every_way
@pytest.mark.parametrize(
    "key",
    [
        f'"{UUID}","{LETTER_FIRST}"',
        f"{UUID},{LETTER_FIRST}",
        f'"{UUID}","{UUID}"',
        f"{UUID},{UUID}",
        f'"{UUID}", "{UUID}"',
        f"{UUID}, {UUID}",
    ],
)
def test_k8_k9_a_joined_pair_of_keys_is_refused(send: Any, way: str, key: str) -> None:
    """K8, K9: two header lines arrive joined by a comma, equal or not."""
    assert_refused(send(way, key=key))


@pytest.mark.parametrize("second", [UUID, LETTER_FIRST])
@pytest.mark.parametrize("form", ['"{}"', "{}"])
def test_k8_k9_two_header_lines_are_refused(live_server: Any, second: str, form: str) -> None:
    """K8, K9: as a real server hands them over."""
    lines = [("Idempotency-Key", form.format(key).encode()) for key in (UUID, second)]

    response = raw_post(live_server, *lines)

    assert response.status == 400
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@every_way
@pytest.mark.parametrize("character", [",", ";", " ", '"', "\\"])
def test_k10_an_ambiguous_bare_key_is_refused(send: Any, way: str, character: str) -> None:
    """K10: comma, semicolon, space, quote, backslash."""
    assert_refused(send(way, key=f"order-0123456789{character}abcdef"))


@every_way
@pytest.mark.parametrize("form", ['"{}"', "{}"])
def test_k11_a_key_has_at_most_255_characters(send: Any, way: str, form: str) -> None:
    """K11: 256 is refused, 255 accepted and stored whole."""
    assert_refused(send(way, key=form.format("k" * 256)))

    assert send(way, key=form.format("k" * 255)).status_code == 201
    assert IdempotencyKey.objects.get().key == "k" * 255
    assert Order.objects.count() == 1


def test_k11_the_limit_counts_decoded_characters(send: Any) -> None:
    """K11: escapes are one character each."""
    assert send("/apiview/", key='"' + r"\"" * 255 + '"').status_code == 201
    assert Order.objects.count() == 1


@every_way
def test_k11_the_limit_is_a_setting(send: Any, settings: Any, way: str) -> None:
    """K11: ``KEY_MAX_LENGTH``."""
    settings.IDEMPOTENCY = {"KEY_MAX_LENGTH": 36}

    assert_refused(send(way, key="k" * 37))
    assert send(way, key="k" * 36).status_code == 201


@every_way
@pytest.mark.parametrize("character", ["\xe9", "\xff", "\t", "\x00", "\x01", "\x1f", "\x7f"])
@pytest.mark.parametrize("form", ['"{}"', "{}"])
def test_k12_only_printable_ascii_is_accepted(
    send: Any, way: str, character: str, form: str
) -> None:
    """K12: bytes beyond ASCII, tabs and control characters are refused."""
    assert_refused(send(way, key=form.format(f"order-0123456789{character}abcdef")))


@pytest.mark.parametrize("value", [b"order-0123456789\xe9abc", b'"order-0123456789\tabc"'])
def test_k12_raw_bytes_are_refused_by_a_real_server(live_server: Any, value: bytes) -> None:
    """K12: as they arrive, decoded as latin-1."""
    assert raw_post(live_server, ("Idempotency-Key", value)).status == 400
    assert not Order.objects.exists()


@every_way
def test_k13_a_key_must_match_the_published_format(send: Any, settings: Any, way: str) -> None:
    """K13, ``KEY_PATTERN="uuid"``: refused with the format's name."""
    settings.IDEMPOTENCY = {"KEY_PATTERN": "uuid"}

    refused = send(way, key="order-42-and-so-on")

    assert_refused(refused)
    assert "UUID" in refused.json()["detail"]
    assert send(way, key=UUID).status_code == 201
    assert send(way, key=f'"{UUID}"')["Idempotent-Replayed"] == "true"


@every_way
def test_k13_the_format_may_be_a_regular_expression(send: Any, settings: Any, way: str) -> None:
    """K13, another value: the whole key must match, and the answer names the pattern."""
    settings.IDEMPOTENCY = {"KEY_PATTERN": "order-[0-9]{12}"}

    for key in (UUID, "order-0123456789012", "xorder-012345678901"):
        refused = send(way, key=key)
        assert_refused(refused)
        assert "order-[0-9]{12}" in refused.json()["detail"]
    assert send(way, key="order-012345678901").status_code == 201


@pytest.mark.parametrize("key", ["order-42-and-so-on", "a" * 300, "<script>alert(1)</script>,"])
def test_k13_a_refusal_never_quotes_the_key(send: Any, settings: Any, key: str) -> None:
    """K13: nothing that the client sent comes back in the body."""
    settings.IDEMPOTENCY = {"KEY_PATTERN": "uuid"}

    assert key not in send("/apiview/", key=key).content.decode()


@every_way
def test_k14_the_value_is_case_sensitive(send: Any, way: str) -> None:
    """K14: keys that differ in case are two keys."""
    send(way, key="order-abcdefghijkl")
    send(way, key="order-ABCDEFGHIJKL")

    assert Order.objects.count() == 2
    assert IdempotencyKey.objects.count() == 2


@pytest.mark.parametrize("name", ["idempotency-key", "IDEMPOTENCY-KEY", "iDeMpOtEnCy-KeY"])
def test_k14_the_name_is_case_insensitive(live_server: Any, name: str) -> None:
    """K14: any spelling of the header's name is the same header."""
    raw_post(live_server, ("Idempotency-Key", UUID.encode()))
    retry = raw_post(live_server, (name, UUID.encode()))

    assert retry.getheader("Idempotent-Replayed") == "true"
    assert Order.objects.count() == 1


def test_k15_a_name_with_an_underscore_is_another_header(live_server: Any) -> None:
    """K15: not honoured and not echoed."""
    answers = [raw_post(live_server, ("Idempotency_Key", UUID.encode())) for _ in range(2)]

    assert [answer.status for answer in answers] == [201, 201]
    assert all(answer.getheader("Idempotency-Key") is None for answer in answers)
    assert Order.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


HOSTILE = [
    "'; DROP TABLE orders_order;--",
    "%00%0d%0aX-Injected: 1",
    "<script>alert(1)</script>",
    "{{ 7*7 }} %s %(x)s {0}",
]


@every_way
@pytest.mark.parametrize("value", HOSTILE)
def test_k16_a_hostile_key_is_opaque(user_send: Any, way: str, value: str) -> None:
    """K16: stored as it is, replayed, nothing else happens."""
    first, retry = user_send(way, key=f'"{value}"'), user_send(way, key=f'"{value}"')

    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry["Idempotent-Replayed"] == "true"
    assert "X-Injected" not in retry
    assert IdempotencyKey.objects.get().key == value
    assert Order.objects.count() == 1


@pytest.mark.parametrize("value", HOSTILE)
def test_k16_the_admin_escapes_a_hostile_key(user_send: Any, value: str) -> None:
    """K16: list and detail page show it as text."""
    user_send("/apiview/", key=f'"{value}"')
    record = IdempotencyKey.objects.get()
    user_send.client.force_login(get_user_model().objects.create_superuser("root"))

    for page in ("", f"{record.pk}/change/"):
        shown = user_send.client.get(f"/admin/django_idempotency/idempotencykey/{page}")
        assert shown.status_code == 200
        assert escape(value) in shown.content.decode()
        assert "<script>alert(1)" not in shown.content.decode()
