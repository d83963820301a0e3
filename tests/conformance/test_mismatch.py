"""Rows M of the specification: one key, another request."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from rest_framework.authtoken.models import Token

from django_idempotency.models import IdempotencyKey, KeyEvent
from tests.orders.models import Order
from tests.sender import Sender, new_key

from .test_first_and_replay import WAYS, every_way

pytestmark = pytest.mark.urls("tests.conformance.views_kfm")

FORM = "application/x-www-form-urlencoded"
DRF_WAYS = ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"]
FORM_WAYS = [*DRF_WAYS, "/plain/", "/class/", "/async-form/"]
every_form_way = pytest.mark.parametrize("way", FORM_WAYS)
Part = tuple[str, str | None, str | None, bytes]  # name, file name, content type, content


def assert_mismatch(response: Any, status: int = 422, *, rows: int = 1) -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"].endswith("/key-reused")
    assert response.json()["status"] == status
    assert "Idempotent-Replayed" not in response
    assert Order.objects.count() == rows
    assert IdempotencyKey.objects.get().conflict_count == 1


def assert_replay(response: Any, first: Any) -> None:
    assert first.status_code == 201, first.content
    assert (response.status_code, response.content) == (201, first.content)
    assert response["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1
    assert IdempotencyKey.objects.get().conflict_count == 0


def multipart(parts: list[Part], boundary: str) -> tuple[bytes, str]:
    """A body and its content type."""
    lines = []
    for name, file_name, content_type, content in parts:
        disposition = f'Content-Disposition: form-data; name="{name}"'
        disposition += f'; filename="{file_name}"' if file_name else ""
        head = [f"--{boundary}", disposition]
        head += [f"Content-Type: {content_type}"] if content_type else []
        lines += ["\r\n".join(head).encode() + b"\r\n\r\n" + content]
    lines.append(f"--{boundary}--\r\n".encode())
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


PARTS: list[Part] = [
    ("sku", None, None, b"tea"),
    ("qty", None, None, b"1"),
    ("invoice", "a.pdf", "application/pdf", b"%PDF\x00\xff" * 50),
]


def send_parts(send: Any, way: str, key: str, parts: list[Part], boundary: str = "first") -> Any:
    body, content_type = multipart(parts, boundary)
    return send(way, body, key=key, content_type=content_type)


@every_way
@pytest.mark.parametrize("status", [422, 409, 400])
def test_m1_another_value_is_refused(send: Any, settings: Any, way: str, status: int) -> None:
    """M1, ``MISMATCH_STATUS``: no new row, counted; the original can still be retried."""
    settings.IDEMPOTENCY = {"MISMATCH_STATUS": status}
    key = new_key()
    first = send(way, key=key)

    assert_mismatch(send(way, {"sku": "tea", "qty": 2}, key=key), status)

    assert send(way, key=key).content == first.content
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", [way for way in WAYS if way != "/viewset/"])
def test_m2_another_method_is_refused(send: Any, way: str) -> None:
    """M2: POST, then PATCH."""
    key = new_key()
    send(way, key=key)

    assert_mismatch(send(way, key=key, method="PATCH"))


@every_way
def test_m3_another_path_is_refused(send: Any, way: str) -> None:
    """M3, ``SCOPE="user"``: never a response of another endpoint."""
    key = new_key()
    first = send(way, key=key)

    refused = send("/refunds/", key=key)

    assert_mismatch(refused)
    assert first.content not in refused.content


@every_way
def test_m3_a_route_may_have_keys_of_its_own(send: Any, settings: Any, way: str) -> None:
    """M3, ``SCOPE="user+route"``: both run, both are replayed."""
    settings.IDEMPOTENCY = {"SCOPE": "user+route"}
    key = new_key()

    first = [send(path, key=key) for path in (way, "/refunds/")]
    retries = [send(path, key=key) for path in (way, "/refunds/")]

    assert [answer.status_code for answer in first] == [201, 201]
    assert [retry.content for retry in retries] == [answer.content for answer in first]
    assert all(retry["Idempotent-Replayed"] == "true" for retry in retries)
    assert Order.objects.count() == 2
    assert IdempotencyKey.objects.count() == 2


@pytest.mark.parametrize("scope", ["user", "user+route"])
def test_m3_another_object_of_one_route_is_refused(send: Any, settings: Any, scope: str) -> None:
    """M3: paths are compared, not routes."""
    settings.IDEMPOTENCY = {"SCOPE": scope}
    key = new_key()
    send("/numbered/1/", key=key)

    assert_mismatch(send("/numbered/2/", key=key))


@every_way
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "?notify=1"),
        ("?notify=1", ""),
        ("?notify=1", "?notify=2"),
        ("", "?notify"),
        ("?a=1&a=1", "?a=1"),
        ("?a=1&b=2", "?a=1%26b=2"),
    ],
)
def test_m4_another_query_is_refused(send: Any, way: str, before: str, after: str) -> None:
    """M4: the query string is part of the request."""
    key = new_key()
    send(way + before, key=key)

    assert_mismatch(send(way + after, key=key))


@every_way
@pytest.mark.parametrize(
    ("before", "after"), [("?a=1&b=2", "?b=2&a=1"), ("?a=%7Ex", "?a=~x"), ("?a=x+y", "?a=x%20y")]
)
def test_m4_the_order_of_query_pairs_does_not_count(
    send: Any, way: str, before: str, after: str
) -> None:
    """M4: reordered pairs are the same request, and so are two escapes of one text."""
    key = new_key()
    first = send(way + before, key=key)

    assert_replay(send(way + after, key=key), first)


@pytest.mark.parametrize("way", [way for way in FORM_WAYS if way != "/async-form/"])
@pytest.mark.parametrize("json_first", [True, False])
def test_m5_another_content_type_is_refused(send: Any, way: str, json_first: bool) -> None:
    """M5: the same data as JSON and as a form are two requests."""
    key = new_key()
    requests = [
        {"body": {"sku": "tea", "qty": "1"}, "content_type": "application/json"},
        {"body": "sku=tea&qty=1", "content_type": FORM},
    ]
    first, second = requests if json_first else requests[::-1]
    assert send(way, key=key, **first).status_code == 201

    assert_mismatch(send(way, key=key, **second))


@every_way
@pytest.mark.parametrize("parameter", ["; charset=utf-8", ";charset=UTF-8", '; charset="utf-8"'])
@pytest.mark.parametrize("added", [True, False])
def test_m5_the_default_charset_may_be_spelled_out(
    send: Any, way: str, parameter: str, added: bool
) -> None:
    """M5: ``; charset=utf-8`` changes nothing."""
    key, types = new_key(), ["application/json", "application/json" + parameter]
    before, after = types if added else types[::-1]
    first = send(way, key=key, content_type=before)

    assert_replay(send(way, key=key, content_type=after), first)


@every_way
@pytest.mark.parametrize(
    "respelled",
    [
        '{"qty":1,"sku":"tëa"}',
        ' {\n\t"sku" : "tëa" ,\r\n "qty" : 1 } ',
        r'{"sku":"t\u00eba","qty":1}',
        r'{"\u0073ku":"t\u00EBa","qty":1}',
    ],
)
def test_m6_another_spelling_of_the_same_json_is_a_retry(
    send: Any, way: str, respelled: str
) -> None:
    """M6: member order, white space and escapes do not count."""
    key = new_key()
    first = send(way, '{"sku":"tëa","qty":1}', key=key)

    assert_replay(send(way, respelled, key=key), first)


@every_way
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"x":[1,2]}', '{"x":[2,1]}'),
        ('{"x":1}', '{"x":"1"}'),
        ('{"x":null}', "{}"),
        ('{"x":true}', '{"x":1}'),
        ('{"x":{}}', '{"x":[]}'),
        ('{"x":""}', '{"x":null}'),
        ('{"x":false}', '{"x":0}'),
        ('{"x":[[1],2]}', '{"x":[1,[2]]}'),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_m7_other_json_content_is_refused(
    send: Any, way: str, before: str, after: str, swapped: bool
) -> None:
    """M7: array order, types, and null against absent."""
    key = new_key()
    first, second = (after, before) if swapped else (before, after)
    assert send(way, first, key=key).status_code == 201

    assert_mismatch(send(way, second, key=key))


@every_form_way
def test_m8_a_new_boundary_is_a_retry(send: Any, way: str) -> None:
    """M8: the same fields and files."""
    key = new_key()
    first = send_parts(send, way, key, PARTS)

    assert_replay(send_parts(send, way, key, PARTS, boundary="another"), first)


OTHER_PARTS: dict[str, Part] = {
    "one byte": ("invoice", "a.pdf", "application/pdf", b"%PDF\x00\xff" * 49 + b"%PDF\x00\xfe"),
    "one byte less": ("invoice", "a.pdf", "application/pdf", (b"%PDF\x00\xff" * 50)[:-1]),
    "file name": ("invoice", "b.pdf", "application/pdf", b"%PDF\x00\xff" * 50),
    "part type": ("invoice", "a.pdf", "application/x-pdf", b"%PDF\x00\xff" * 50),
    "field name": ("receipt", "a.pdf", "application/pdf", b"%PDF\x00\xff" * 50),
    "no file": ("invoice", None, None, b"%PDF"),
}


@every_form_way
@pytest.mark.parametrize("what", OTHER_PARTS)
def test_m9_another_file_is_refused(send: Any, way: str, what: str) -> None:
    """M9: bytes, name and type of a part count."""
    key = new_key()
    assert send_parts(send, way, key, PARTS).status_code == 201

    other = [*PARTS[:2], OTHER_PARTS[what]]
    assert_mismatch(send_parts(send, way, key, other, boundary="another"))


@every_form_way
def test_m9_another_field_beside_a_file_is_refused(send: Any, way: str) -> None:
    """M9: fields count as well."""
    key = new_key()
    send_parts(send, way, key, PARTS)

    other: list[Part] = [PARTS[0], ("qty", None, None, b"2"), PARTS[2]]
    assert_mismatch(send_parts(send, way, key, other))


@every_form_way
@pytest.mark.parametrize(
    ("before", "after"),
    [("sku=a&qty=2", "qty=2&sku=a"), ("x=1&y=3&x=2", "y=3&x=1&x=2"), ("x=%61", "x=a")],
)
def test_m10_the_order_of_form_fields_does_not_count(
    send: Any, way: str, before: str, after: str
) -> None:
    """M10: ``a=1&b=2`` and ``b=2&a=1`` are the same."""
    key = new_key()
    first = send(way, before, key=key, content_type=FORM)

    assert_replay(send(way, after, key=key, content_type=FORM), first)


@every_form_way
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x=1&x=2", "x=2&x=1"),
        ("x=1", "x=2"),
        ("x=1&x=1", "x=1"),
        ("x=", ""),
        ("x=1y", "x=1&y="),
        ("x=1&y=2", "x=2&y=1"),
        ("x=1%26y=2", "x=1&y=2"),
    ],
)
def test_m10_other_form_values_are_refused(send: Any, way: str, before: str, after: str) -> None:
    """M10: the order of the values of one name counts."""
    key = new_key()
    assert send(way, before, key=key, content_type=FORM).status_code == 201

    assert_mismatch(send(way, after, key=key, content_type=FORM))


@pytest.mark.parametrize("way", ["/bytes/", "/plain-bytes/", "/async-bytes/"])
@pytest.mark.parametrize("size", [3, 3_000])
def test_m11_one_other_byte_is_refused(send: Any, way: str, size: int) -> None:
    """M11: any other body counts by its bytes, which the view still gets whole."""
    kind, key, body = "application/octet-stream", new_key(), bytes(range(256)) * size
    first = send(way, body, key=key, content_type=kind)
    assert first.json()["sku"] == str(len(body))
    retry = send(way, body, key=key, content_type=kind)
    assert_replay(retry, first)

    assert_mismatch(send(way, body[:-1] + b"\x00", key=key, content_type=kind))


@every_way
def test_m12_incidental_headers_do_not_count(send: Any, way: str) -> None:
    """M12: user agent, date and trace of a retry are its own."""
    key = new_key()
    first = send(way, key=key, User_Agent="one/1", Date="Mon, 01 Jan 2024 00:00:00 GMT")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    retry = send(way, key=key, User_Agent="two/2", traceparent=trace, Accept_Language="de")

    assert_replay(retry, first)


@pytest.mark.parametrize("way", DRF_WAYS)
def test_m12_a_refreshed_token_is_the_same_user(send: Any, way: str) -> None:
    """M12: the principal counts, not the credentials."""
    user, key = get_user_model().objects.create_user("alice"), new_key()
    old = Token.objects.create(user=user)
    first = send(way, key=key, Authorization=f"Token {old.key}")
    old.delete()
    new = Token.objects.create(user=user)
    assert new.key != old.key

    assert_replay(send(way, key=key, Authorization=f"Token {new.key}"), first)


@pytest.mark.parametrize("way", ["/excluding/", "/plain-excluding/"])
@pytest.mark.parametrize("later", [{"client_ts": 2}, {}, {"client_ts": [{"a": 1}]}])
def test_m13_an_excluded_member_may_differ(send: Any, way: str, later: Any) -> None:
    """M13: a retry may change it or leave it out; every other member counts."""
    key, order = new_key(), {"sku": "tea", "qty": 1}
    first = send(way, order | {"client_ts": 1}, key=key)

    assert_replay(send(way, order | later, key=key), first)

    assert_mismatch(send(way, order | later | {"qty": 2}, key=key))


@pytest.mark.parametrize("way", ["/excluding/", "/plain-excluding/"])
def test_m13_a_form_may_exclude_fields_too(send: Any, way: str) -> None:
    """M13: by name, in a form."""
    key = new_key()
    first = send(way, "sku=tea&client_ts=1", key=key, content_type=FORM)

    assert_replay(send(way, "sku=tea&client_ts=2", key=key, content_type=FORM), first)

    assert_mismatch(send(way, "sku=mate&client_ts=2", key=key, content_type=FORM))


@every_way
def test_m13_nothing_is_excluded_by_default(send: Any, way: str) -> None:
    """M13, unset: a client's time stamp is as good as any other member."""
    key = new_key()
    send(way, {"sku": "tea", "client_ts": 1}, key=key)

    assert_mismatch(send(way, {"sku": "tea", "client_ts": 2}, key=key))


@every_way
@pytest.mark.parametrize("mode", ["fields", "body", "nothing"])
def test_m14_a_refusal_says_nothing_about_the_first_request(
    send: Any, settings: Any, way: str, mode: str
) -> None:
    """M14: no values, no response, no names of members."""
    settings.IDEMPOTENCY = {"RECORD_REQUEST": mode}
    key = new_key()
    first = send(way, {"sku": "canary-one", "hidden_member": "canary-two"}, key=key)

    refused = send(way, {"sku": "canary-three"}, key=key)

    assert_mismatch(refused)
    said = refused.content.decode() + str(dict(refused.items()))
    for secret in ("canary", "hidden_member", first.content.decode(), first["Location"]):
        assert secret not in said
    assert key not in refused.content.decode()


@pytest.mark.row_locks
@every_way
def test_m15_a_mismatch_is_told_while_the_first_is_in_flight(
    send: Any, after: Any, way: str
) -> None:
    """M15: 422 and not 409, at once; the first goes on."""
    key, entered, leave = new_key(), threading.Event(), threading.Event()
    answers: list[Any] = []

    def wait(request: Any, order: Order) -> None:
        entered.set()
        assert leave.wait(20)

    def place_first() -> None:
        try:
            answers.append(Sender()(way, key=key))
        finally:
            connections.close_all()

    after(wait)
    thread = threading.Thread(target=place_first)
    thread.start()
    try:
        assert entered.wait(20)
        refused = send(way, {"sku": "tea", "qty": 2}, key=key)
        same = send(way, key=key)
        assert thread.is_alive()
    finally:
        leave.set()
        thread.join(20)

    assert [answer.status_code for answer in answers] == [201]
    assert same.status_code == 409
    assert_mismatch(refused)
    assert Order.objects.get().qty == 1
    kinds = sorted(KeyEvent.objects.values_list("kind", flat=True))
    assert kinds == ["conflict", "in_flight"]


def test_m1_field_names_that_no_database_can_hold_are_refused_like_any(send: Any) -> None:
    """M1: an unpaired surrogate, a NUL, and a very long name in the evidence."""
    for name in (r"\ud800", r"a\u0000b", "n" * 5_000):
        key = new_key()
        assert send("/apiview/", f'{{"{name}":1}}', key=key).status_code == 201

        refused = send("/apiview/", f'{{"{name}":2}}', key=key)

        assert refused.status_code == 422, name[:20]
        assert IdempotencyKey.objects.get(key=key).conflict_count == 1


def test_m5_json_types_with_a_suffix_count_by_content(send: Any) -> None:
    """M6: ``application/vnd.api+json`` is JSON; other structured types count by bytes."""
    way, kind, key = "/plain-bytes/", "application/vnd.api+json", new_key()
    first = send(way, '{"a":1,"b":2}', key=key, content_type=kind)

    assert_replay(send(way, '{"b":2, "a":1}', key=key, content_type=kind), first)
