"""Security rows S10, S11, S29: what a leaked table tells, beyond what tests elsewhere say."""

from __future__ import annotations

import hashlib
import json
from itertools import product
from typing import Any

import pytest
from django.apps import apps
from django.http import JsonResponse
from django.urls import include, path
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.fingerprint import content_digest
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.orders.views import drf_answer, plain_answer
from tests.sender import new_key

PAN = "4000123412341234"  # a card number that must be nowhere
FORM = "application/x-www-form-urlencoded"
_PART = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
MULTIPART = _PART.format("sku", "tea") + _PART.format("pan", PAN) + "--b--\r\n"
KEPT = {"status": "paid"}


def without_token(body: bytes, content_type: str) -> bytes:
    return json.dumps({**json.loads(body), "token": None}).encode()


class OneTime(IdempotentMixin, APIView):
    def post(self, request: Any) -> Any:
        return drf_answer(request)

    def redact_response(self, body: bytes, content_type: str) -> bytes | None:
        return without_token(body, content_type)


class Unkept(IdempotentMixin, APIView):
    def post(self, request: Any) -> Any:
        return drf_answer(request)

    def redact_response(self, body: bytes, content_type: str) -> bytes | None:
        return None


urlpatterns = [
    path("token/", OneTime.as_view()),
    path("token-plain/", idempotent(redact_response=without_token)(plain_answer)),
    path("unkept/", Unkept.as_view()),
    path("unkept-plain/", idempotent(redact_response=lambda body, kind: None)(plain_answer)),
    path("", include("tests.urls")),
]
pytestmark = pytest.mark.urls(__name__)


def dump() -> bytes:
    """All columns of all our tables as their bytes: what leaks if the database does."""
    found: list[bytes] = []
    for model in apps.get_app_config("django_idempotency").get_models():
        for row in model._default_manager.values_list():
            found += [
                bytes(v) if isinstance(v, (bytes, memoryview)) else str(v).encode() for v in row
            ]
    return b"\n".join(found)


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


# -- S10


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_s10_no_digest_in_the_table_can_be_guessed(send: Any, settings: Any, way: str) -> None:
    """S10: who has the dump and the right card number cannot tell, without the secret."""
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["dedicated"]}
    sent = {"sku": "tea", "pan": PAN}
    send(way, sent, key="a-key-that-was-in-the-dump-1")
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["guessed"]}
    send(way, sent, key="a-key-that-was-in-the-dump-2")

    first, second = IdempotencyKey.objects.order_by("key")

    assert first.fingerprint != second.fingerprint
    old, new = (json.loads(row.request_record)["fields"]["pan"] for row in (first, second))
    assert old != new
    texts = [PAN, f'"{PAN}"', json.dumps(sent), f'pan"{PAN}"', f"pan={PAN}"]
    guesses = [
        hashlib.new(name, t.encode()).hexdigest() for name in ("sha256", "md5") for t in texts
    ]
    guesses += [content_digest([text.encode()]).hex() for text in texts]
    leaked = dump().decode("latin-1")
    assert not [guess for guess in guesses if guess[:12] in leaked]


def test_s10_secret_key_can_be_rotated_where_fingerprints_have_their_own(
    send: Any, settings: Any
) -> None:
    """S10: neither a new SECRET_KEY nor a new first fingerprint key makes a retry a conflict."""
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["old"]}
    key = new_key()
    send("/plain/", key=key)
    settings.SECRET_KEY = "another-one"
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["new", "old"]}
    assert is_replay(send("/plain/", key=key))
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": ["new"]}
    assert send("/plain/", key=key).status_code == 422  # a control: the list is what is asked


# -- S11, S29


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_s11_no_value_of_a_request_is_at_rest(send: Any, settings: Any, way: str) -> None:
    """S11: body, query, header, cookie: first use, replay, conflict. Redacted where bodies are."""
    bodies = {
        "application/json": json.dumps({"sku": "tea", "pan": PAN, "nested": [{"pan": PAN}]}),
        FORM: f"sku=tea&pan={PAN}",
        "multipart/form-data; boundary=b": MULTIPART,
    }
    send.client.cookies["card"] = PAN
    for mode, (kind, text) in product(["fields", "body", "nothing"], bodies.items()):
        settings.IDEMPOTENCY = {"RECORD_REQUEST": mode}
        key = new_key()
        answers = [
            send(f"{way}?pan={PAN}", sent, key=key, content_type=kind, X_Card=PAN)
            for sent in (text, text, text.replace("tea", "oil"))
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 422]

    assert IdempotencyKey.objects.count() == 9
    assert PAN.encode() not in dump()


def test_s11_the_dump_would_show_it(send: Any, after: Any) -> None:
    """Negative control: what the view answers is kept, and found."""
    after(lambda request, order: JsonResponse({"pan": PAN}, status=201))
    send("/plain/", key=new_key())

    assert PAN.encode() in dump()


@pytest.mark.parametrize("way", ["/token/", "/token-plain/"])
def test_s29_a_one_time_token_is_not_kept(send: Any, after: Any, way: str) -> None:
    """S29: the first answer has it; the table has not, and so no replay."""
    after(lambda request, order: JsonResponse({**KEPT, "token": f"once-{PAN}"}, status=201))
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert first.json()["token"] == f"once-{PAN}"
    assert (retry.status_code, retry.json()) == (201, {**KEPT, "token": None})
    assert is_replay(retry)
    assert PAN.encode() not in dump()
    assert Order.objects.count() == 1


@pytest.mark.parametrize("way", ["/unkept/", "/unkept-plain/"])
def test_s11_s29_a_view_may_keep_nothing(send: Any, after: Any, way: str) -> None:
    """S11, S29: no body at rest; a repeat is told that it was carried out, and never runs."""
    after(lambda request, order: JsonResponse({"pan": PAN}, status=201))
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)

    assert first.json() == {"pan": PAN}
    assert (retry.status_code, retry.json()["code"]) == (409, "idempotency_result_not_stored")
    assert PAN.encode() not in dump()
    assert Order.objects.count() == 1
