"""Rows F of the specification: a first execution, a missing key, methods."""

from __future__ import annotations

from typing import Any

import pytest

from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key

from .test_first_and_replay import WAYS, every_way

pytestmark = pytest.mark.urls("tests.conformance.views_kfm")

DRF_WAYS = ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"]
PLAIN = ("/plain/", "/class/", "/async/")
POSTMARK = {"Idempotency-Key", "Idempotent-Replayed"}
patchable = pytest.mark.parametrize("way", [way for way in WAYS if way != "/viewset/"])


def assert_key_missing(response: Any) -> None:
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"].endswith("/key-missing")
    assert problem["status"] == 400
    assert "Idempotency-Key" in problem["detail"]
    assert problem["title"]
    assert response["Link"] == f'<{problem["type"]}>; rel="describedby"'
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("way", ["/required/", "/viewset/strict/"])
def test_f1_a_required_key_is_missed(send: Any, way: str) -> None:
    """F1: a view or an action that requires one."""
    assert_key_missing(send(way))

    assert send(way, key=new_key()).status_code == 201
    assert Order.objects.count() == 1


@every_way
def test_f1_keys_may_be_required_everywhere(send: Any, settings: Any, way: str) -> None:
    """F1, ``REQUIRED=True``."""
    settings.IDEMPOTENCY = {"REQUIRED": True}

    assert_key_missing(send(way))

    assert send(way, key=new_key()).status_code == 201
    assert Order.objects.count() == 1


@every_way
def test_f2_without_a_key_every_request_runs(send: Any, way: str) -> None:
    """F2: two rows, no record, no marker."""
    answers = send(way), send(way)

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not any(name in answer for answer in answers for name in POSTMARK)
    assert Order.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


@every_way
@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_f3_a_first_response_is_the_view_s_own(send: Any, way: str, form: str) -> None:
    """F3: body and headers as without a key, plus the echoed key."""
    unkeyed, key = send(way), form.format(new_key())
    before = Order.objects.get()

    first = send(way, key=key)

    after = Order.objects.exclude(pk=before.pk).get()
    assert (unkeyed.status_code, first.status_code) == (201, 201)
    assert first.json() == unkeyed.json() | {"id": after.pk}
    headers, expected = dict(first.items()), dict(unkeyed.items())
    assert headers.pop("Idempotency-Key") == key
    assert headers.pop("Content-Length") == str(len(first.content))
    del expected["Content-Length"]
    expected["Location"] = f"/orders/{after.pk}/"
    if way in PLAIN:
        # Whose key it is is read from the session, and the session middleware says so to
        # caches. The view's own headers are untouched.
        expected["Vary"] = "Cookie"
    assert headers == expected


@pytest.mark.parametrize("way", ["/apiview/", "/viewset/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_f4_safe_methods_ignore_the_key(send: Any, way: str, method: str) -> None:
    """F4: not used up, not echoed."""
    key = new_key()

    safe = [send(way, "", key=key, method=method) for _ in range(2)]
    assert [answer.status_code for answer in safe] == [200, 200]
    assert not any(name in answer for answer in safe for name in POSTMARK)
    assert not IdempotencyKey.objects.exists()

    assert send(way, key=key).status_code == 201
    assert Order.objects.count() == 1


@patchable
def test_f5_a_patch_is_applied_once(send: Any, way: str) -> None:
    """F5: PATCH is protected like POST."""
    key = new_key()

    first = send(way, key=key, method="PATCH")
    retry = send(way, key=key, method="PATCH")

    assert (first.status_code, retry.content) == (201, first.content)
    assert retry["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_f5_an_increment_is_applied_once(send: Any) -> None:
    """F5: ``qty += 1``."""
    order, key = Order.objects.create(sku="tea", qty=1), new_key()

    answers = [send(f"/counter/{order.pk}/", {}, key=key, method="PATCH") for _ in range(2)]

    assert [answer.json()["qty"] for answer in answers] == [2, 2]
    order.refresh_from_db()
    assert order.qty == 2


def test_f6_put_passes_through(send: Any) -> None:
    """F6: two executions, no record, no echo."""
    key = new_key()

    answers = [send("/apiview/", key=key, method="PUT") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not any(name in answer for answer in answers for name in POSTMARK)
    assert Order.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


def test_f6_delete_passes_through(send: Any) -> None:
    """F6: the second finds nothing."""
    path, key = f"/viewset/{Order.objects.create(sku='tea').pk}/", new_key()

    answers = [send(path, "", key=key, method="DELETE") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 404]
    assert not any(name in answer for answer in answers for name in POSTMARK)
    assert not IdempotencyKey.objects.exists()


def test_f6_put_may_be_added(send: Any, settings: Any) -> None:
    """F6, ``METHODS`` with PUT: one execution."""
    settings.IDEMPOTENCY = {"METHODS": {"POST", "PATCH", "PUT"}}
    key = new_key()

    answers = [send("/apiview/", key=key, method="PUT") for _ in range(2)]

    assert answers[1]["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@every_way
def test_f6_a_method_may_be_left_out(send: Any, settings: Any, way: str) -> None:
    """F6, ``METHODS`` without POST: keys are not honoured there, required or not."""
    settings.IDEMPOTENCY = {"METHODS": {"PATCH"}, "REQUIRED": True}
    key = new_key()

    answers = [send(way, key=key) for _ in range(2)] + [send(way)]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert not any(name in answer for answer in answers for name in POSTMARK)
    assert Order.objects.count() == 3
    assert not IdempotencyKey.objects.exists()


def test_f7_a_repeated_delete_is_a_replay(send: Any, settings: Any) -> None:
    """F7, ``METHODS`` with DELETE: 204 twice, not 404."""
    settings.IDEMPOTENCY = {"METHODS": {"POST", "PATCH", "DELETE"}}
    Order.objects.create(sku="coffee")
    path, key = f"/viewset/{Order.objects.create(sku='tea').pk}/", new_key()

    answers = [send(path, "", key=key, method="DELETE") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert Order.objects.get().sku == "coffee"


@pytest.mark.parametrize("key", ["f8-is-not-echoed-here", "", "a,b"])
def test_f8_an_unprotected_view_does_not_echo(send: Any, key: str) -> None:
    """F8: a client can tell that its key is not honoured."""
    answers = [send("/unprotected/", key=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not any(name in answer for answer in answers for name in POSTMARK)
    assert Order.objects.count() == 2
    assert not IdempotencyKey.objects.exists()


def assert_corrected_request_runs(send: Any, way: str, key: str, **request: Any) -> None:
    """The key was not used up: another request runs under it, and is then replayed."""
    assert not Order.objects.exists()
    first = send(way, key=key, **request)
    assert first.status_code == 201, first.content
    assert "Idempotent-Replayed" not in first
    assert send(way, key=key, **request)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    ("way", "method"),
    [
        ("/viewset/", "PATCH"),
        ("/function/", "PUT"),
        ("/required/", "TRACE"),
        ("/post-only-class/", "PATCH"),
        ("/post-only-plain/", "PATCH"),
        ("/class/", "PUT"),
    ],
)
def test_f9_a_405_does_not_use_up_the_key(send: Any, settings: Any, way: str, method: str) -> None:
    """F9: the right method then runs."""
    settings.IDEMPOTENCY = {"METHODS": {"POST", "PATCH", "PUT"}}
    key = new_key()

    refused = [send(way, key=key, method=method) for _ in range(2)]

    assert [answer.status_code for answer in refused] == [405, 405]
    assert not any("Idempotent-Replayed" in answer for answer in refused)
    assert_corrected_request_runs(send, way, key)


@every_way
def test_f9_an_unknown_url_does_not_use_up_the_key(send: Any, way: str) -> None:
    """F9: 404."""
    key = new_key()

    assert send("/nowhere/", key=key).status_code == 404
    assert_corrected_request_runs(send, way, key)


def test_f9_an_unknown_object_does_not_use_up_the_key(send: Any) -> None:
    """F9: a 404 that the view raises."""
    key = new_key()

    assert send("/viewset/987654/", {"qty": 2}, key=key, method="PATCH").status_code == 404
    assert_corrected_request_runs(send, "/viewset/", key)


@pytest.mark.parametrize("way", DRF_WAYS)
def test_f9_an_unsupported_media_type_does_not_use_up_the_key(send: Any, way: str) -> None:
    """F9: 415."""
    key = new_key()

    assert send(way, "sku=tea", key=key, content_type="text/plain").status_code == 415
    assert_corrected_request_runs(send, way, key)


@pytest.mark.parametrize("way", DRF_WAYS)
def test_f9_an_unacceptable_representation_does_not_use_up_the_key(send: Any, way: str) -> None:
    """F9: 406."""
    key = new_key()

    assert send(way, key=key, Accept="application/xml").status_code == 406
    assert_corrected_request_runs(send, way, key, Accept="application/json")


@every_way
@pytest.mark.parametrize("body", ["{", '{"sku": tea}', "", b"\xff\xfe", "[" * 100_000])
def test_f9_malformed_json_does_not_use_up_the_key(send: Any, way: str, body: Any) -> None:
    """F9: the error is the one without a key, and the corrected body runs."""
    key = new_key()
    status = send(way, body).status_code

    assert status >= 400 or body == ""  # DRF reads an empty body as no data
    if status >= 400:
        assert send(way, body, key=key).status_code == status
        assert_corrected_request_runs(send, way, key)
