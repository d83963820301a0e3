"""Requests made from the OpenAPI schema of the example project: documented answers, one effect.

``PROOF_SEED`` repeats a run, ``PROOF_FUZZ_CASES`` prolongs it; the long one is ``-m proof``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.db.models import Sum
from drf_spectacular.validation import validate_schema
from hypothesis import strategies as st
from rest_framework.authtoken.models import Token

from example_project.shop.models import Account, GuestOrder, Payment, Refund
from tests.orders.models import Order
from tests.proof.fuzz_cases import Target, examine
from tests.proof.fuzz_openapi import Schema
from tests.proof.fuzz_range import Site, served
from tests.proof.fuzz_schema import schema_of
from tests.shop_server import running_shop

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SHORT = int(os.environ.get("PROOF_FUZZ_CASES", "12"))
LONG = int(os.environ.get("PROOF_FUZZ_CASES", "800"))
PATIENCE = 20  # runs until chance has made a request that succeeds
WRITES = {
    ("/payments/", True),
    ("/payments/{id}/refunds/", True),
    ("/orders/import/", True),
    ("/orders/guest/", False),
    ("/orders/async/", False),
}


@pytest.fixture(autouse=True)
def _auto_schema(settings: Any) -> None:
    inspector = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, **inspector}


# -- what protection adds to a schema


@pytest.mark.parametrize(("path", "required"), sorted(WRITES))
def test_the_header_and_the_refusals_can_be_documented(path: str, required: bool) -> None:
    """By a hook of drf-spectacular: for each protected operation, and for no other."""
    schema = schema_of("example_project.urls")
    validate_schema(schema)
    operation = schema["paths"][path]["post"]

    (header,) = [p for p in operation["parameters"] if p["in"] == "header"]
    assert (header["name"], header["required"]) == ("Idempotency-Key", required)
    codes = {status: codes_of(response) for status, response in operation["responses"].items()}
    assert ("idempotency_key_missing" in codes["400"]) is required
    assert {"idempotency_key_invalid", "idempotency_key_too_short"} <= codes["400"]
    assert {"idempotency_in_progress", "idempotency_result_not_stored"} <= codes["409"]
    assert codes["422"] == {"idempotency_key_reused"}
    assert "idempotency_store_unavailable" in codes["503"]
    assert "Retry-After" in operation["responses"]["409"]["headers"]
    reads = [item["get"] for item in schema["paths"].values() if "get" in item]
    assert reads
    assert "dempoten" not in str(reads).replace("request without a key", "")


def codes_of(response: Schema) -> set[str]:
    problem = response.get("content", {}).get("application/problem+json")
    return set(problem["schema"]["allOf"][1]["properties"]["code"]["enum"]) if problem else set()


def test_the_schema_follows_the_settings(settings: Any) -> None:
    """Refusals that this site cannot give are not announced, and those that it can are."""
    settings.IDEMPOTENCY = {"KEYS_PER_SCOPE": 9, "MISMATCH_STATUS": 409, "KEY_MIN_LENGTH": 20}

    operation = schema_of("example_project.urls")["paths"]["/payments/"]["post"]

    assert codes_of(operation["responses"]["429"]) == {"idempotency_too_many_keys"}
    assert "idempotency_key_reused" in codes_of(operation["responses"]["409"])
    assert "422" not in operation["responses"]
    assert operation["parameters"][-1]["schema"]["minLength"] == 20


# -- requests made from it


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The example project, served; someone with money, and a payment to refund."""
    owner = User.objects.create_user("teashop-app")
    token = Token.objects.create(user=owner)
    account = Account.objects.create(owner=owner, name="Tea shop", balance=2_000_000)
    payment = Payment.objects.create(account=account, amount=1_000_000, reference="INV-1001")
    schema = schema_of("example_project.urls")
    narrow(schema, account, payment)
    with running_shop(threads=4) as url:
        yield Target(url, schema, effects, {"Authorization": f"Token {token.key}"})


def narrow(schema: Schema, account: Account, payment: Payment) -> None:
    """Where only what exists can succeed, valid requests name it."""
    members = schema["components"]["schemas"]["PaymentRequest"]["properties"]
    members["account"] = {"type": "integer", "enum": [account.pk]}
    for method, path in (("get", "/payments/{id}/"), ("post", "/payments/{id}/refunds/")):
        for parameter in schema["paths"][path][method]["parameters"]:
            if parameter["name"] == "id":
                parameter["schema"] = {"type": "integer", "enum": [payment.pk]}
    upload = schema["paths"]["/orders/import/"]["post"]["requestBody"]["content"]
    upload["multipart/form-data"]["encoding"] = {"file": {"contentType": "text/csv"}}
    lines = ["a@example.com,Teapot,1", "b@example.com,Ö,2", "c@example.com,,3", "d,Atlas,0", "\xff"]
    tables = st.lists(st.sampled_from(lines[:2]), min_size=1, max_size=3)
    tables |= st.lists(st.sampled_from(lines), max_size=3)
    files = tables.map(lambda rows: "\n".join(["email,item,quantity", *rows]).encode())
    schemathesis.openapi.media_type("text/csv", files)


def effects() -> tuple[int, ...]:
    """All that these requests can do; the sum of the money stays what it was."""
    models: Any = (Payment, Refund, GuestOrder)
    balance = Account.objects.aggregate(total=Sum("balance"))["total"]
    paid, back = (m.objects.aggregate(total=Sum("amount"))["total"] or 0 for m in models[:2])
    assert balance + paid - back == 3_000_000
    return (balance, *(model.objects.count() for model in models))


def run(target: Target, cases: int, capsys: Any) -> None:
    chance = int(os.environ.get("PROOF_SEED", random.randrange(2**32)))
    for operation in target.operations():
        target.statuses.clear()
        success = "201" if operation.method.upper() == "POST" else "200"
        try:
            for further in range(PATIENCE):
                examine(target, operation, chance + further, cases=cases)
                if target.statuses[success]:
                    break
        finally:
            with capsys.disabled():
                answers = dict(target.statuses)
                print(f"\nschema: seed {chance}, {operation.label} {answers}", end=" ")
        assert target.statuses[success], "all was refused, so nothing was tried"


def test_requests_from_the_schema(shop: Target, capsys: Any) -> None:
    """Valid ones and others: a documented answer to each, never a 500; a second does nothing."""
    run(shop, SHORT, capsys)


@pytest.mark.proof
def test_many_requests_from_the_schema(shop: Target, capsys: Any) -> None:
    """The same for some minutes."""
    run(shop, LONG, capsys)


# -- the checker is checked


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    with django_db_blocker.unblock(), served("strict") as site:
        yield site


FAULTS = {
    "/answers-500/": "Server error",
    "/another-scope/": "the second went from",
    "/half-done/": "400, and the effects went from",
    "/undocumented/": "Undocumented status code",
}


@pytest.mark.parametrize("path", ["/sound/", *FAULTS])
def test_a_planted_fault_turns_the_checker_red(site: Site, path: str) -> None:
    """Each of the faults is found, and in a sound view none is."""
    schema = schema_of("tests.proof.fuzz_faults")
    url = f"http://127.0.0.1:{site.port}/faults"
    target = Target(url, schema, lambda: Order.objects.count())
    (operation,) = [found for found in target.operations() if found.path == path]

    if path == "/sound/":
        examine(target, operation, 1, cases=25)
        assert target.statuses["201"]
        return
    with pytest.raises(AssertionError, match=FAULTS[path]):
        examine(target, operation, 1, cases=200)
