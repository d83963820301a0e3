"""The example project is what people copy from: its demo and its views do what they say."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db.models import F, Q
from django.test import Client
from django.utils import timezone
from rest_framework.authtoken.models import Token

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from example_project.shop.models import Account, GuestOrder, Payment, Refund
from tests.sender import Sender, new_key

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("example_project.urls"),
]

BALANCE = 10_000
GUEST = {"email": "guest@example.com", "item": "Teapot", "quantity": 2}


@pytest.fixture
def account() -> Account:
    owner = User.objects.create_user("teashop-app")
    return Account.objects.create(owner=owner, name="Tea shop", balance=BALANCE)


@pytest.fixture
def send(account: Account) -> Sender:
    """Sends as the owner of the account."""
    token = Token.objects.create(user=account.owner)
    return Sender(headers={"Authorization": f"Token {token.key}"})


def paying(account: Account, amount: int = 1250) -> dict[str, Any]:
    return {"account": account.pk, "amount": amount, "reference": "INV-1001"}


def test_the_demo_runs_twice_without_duplicating(settings: Any, capsys: Any) -> None:
    """A second run finds everything in place, and both print what to try."""
    settings.DEBUG = True
    models: Any = (IdempotencyKey, KeyTally, KeyEvent, User, Token, Account)

    call_command("demo", "127.0.0.1:8123", no_serve=True)
    first = [model.objects.count() for model in models]
    call_command("demo", "127.0.0.1:8123", no_serve=True)

    assert [model.objects.count() for model in models] == first
    assert first[0] == 700
    assert all(first)
    out = capsys.readouterr().out
    assert out.count("curl -i http://127.0.0.1:8123/payments/") == 6
    assert "http://127.0.0.1:8123/admin/ (user admin, password admin)" in out


def test_the_demo_refuses_to_run_without_debug() -> None:
    """Its administrator has a password that everyone knows."""
    with pytest.raises(CommandError, match="DEBUG=1"):
        call_command("demo", no_serve=True)
    assert not User.objects.exists()


def test_the_history_is_in_the_past_and_adds_up(settings: Any) -> None:
    """Tallies count the events they stand for; nothing happened tomorrow."""
    settings.DEBUG = True
    call_command("demo", no_serve=True)

    for field, kind in (
        ("replay_count", "replayed"),
        ("conflict_count", "conflict"),
        ("in_flight_count", "in_flight"),
        ("failure_count", "failed"),
    ):
        counted = sum(KeyTally.objects.values_list(field, flat=True))
        assert counted == KeyEvent.objects.filter(kind=kind).count() > 0
    now = timezone.now()
    assert not IdempotencyKey.objects.filter(
        Q(created_at__gt=now) | Q(completed_at__gt=now) | Q(completed_at__lt=F("created_at"))
    )
    assert not KeyEvent.objects.filter(Q(at__gt=now) | Q(at__lt=F("key__created_at")))
    assert IdempotencyKey.objects.unfinished().exists()


def test_a_payment_is_made_once_and_a_conflicting_reuse_is_refused(
    send: Sender, account: Account
) -> None:
    """First request, retry, another amount: one payment, one deduction."""
    key = new_key()

    first = send("/payments/", paying(account), key=key)
    retry = send("/payments/", paying(account), key=key)
    conflict = send("/payments/", paying(account, 9900), key=key)

    assert [first.status_code, retry.status_code, conflict.status_code] == [201, 201, 422]
    assert retry.content == first.content
    assert "Idempotent-Replayed" not in first.headers
    assert retry.headers["Idempotent-Replayed"] == "true"
    assert Payment.objects.count() == 1
    account.refresh_from_db()
    assert account.balance == BALANCE - 1250


def test_a_payment_without_a_key_is_refused(send: Sender, account: Account) -> None:
    """Money does not move on a request that could not be retried."""
    assert send("/payments/", paying(account)).status_code == 400
    assert not Payment.objects.exists()


def test_a_low_balance_is_a_final_answer(send: Sender, account: Account) -> None:
    """It was returned, so the retry gets it, even though money has arrived."""
    key = new_key()
    assert send("/payments/", paying(account, BALANCE + 1), key=key).status_code == 402
    Account.objects.update(balance=BALANCE * 2)

    retry = send("/payments/", paying(account, BALANCE + 1), key=key)

    assert retry.status_code == 402
    assert retry.headers["Idempotent-Replayed"] == "true"
    assert not Payment.objects.exists()


def test_bad_input_leaves_the_key_free(send: Sender, account: Account) -> None:
    """It was raised, so the corrected request may come under the same key."""
    key = new_key()
    assert send("/payments/", paying(account, 0), key=key).status_code == 400
    assert send("/payments/", paying(account), key=key).status_code == 201


def test_the_account_of_another_cannot_be_charged(send: Sender, account: Account) -> None:
    """It is answered as an account that does not exist."""
    other = Account.objects.create(owner=User.objects.create_user("other"), name="x", balance=9)
    assert send("/payments/", paying(other, 1), key=new_key()).status_code == 400
    assert not Payment.objects.exists()


def test_a_refund_is_made_once_and_never_exceeds_the_payment(
    send: Sender, account: Account
) -> None:
    """The retry is a replay, and what is left over is all that another key gets."""
    path = f"/payments/{send('/payments/', paying(account), key=new_key()).json()['id']}/refunds/"
    key = new_key()

    statuses = [send(path, {"amount": 1000}, key=key).status_code for _ in range(2)]

    assert statuses == [201, 201]
    assert send(path, {"amount": 1000}, key=new_key()).status_code == 400
    assert Refund.objects.count() == 1
    account.refresh_from_db()
    assert account.balance == BALANCE - 250
    row = IdempotencyKey.objects.in_scope(f"user:{account.owner.pk}", key).get()
    assert (row.expires_at - row.created_at).days == 7


@pytest.mark.parametrize("path", ["/orders/guest/", "/orders/async/"])
def test_a_guest_orders_once(path: str) -> None:
    """Anonymous clients are protected as well, sync and async."""
    send, key = Sender(), new_key()

    first, retry = send(path, GUEST, key=key), send(path, GUEST, key=key)

    assert first.status_code == 201
    assert retry.content == first.content
    assert GuestOrder.objects.count() == 1


def hidden_key(page: Any) -> str:
    found = re.search(r'name="idempotency_key" value="([^"]+)"', page.content.decode())
    assert found
    return found[1]


def test_a_second_click_lands_on_the_same_page() -> None:
    """The form carries its key; each rendered form has its own."""
    client = Client()
    key = hidden_key(client.get("/checkout/"))
    assert hidden_key(client.get("/checkout/")) != key

    clicks = [client.post("/checkout/", {**GUEST, "idempotency_key": key}) for _ in range(2)]

    assert [click.status_code for click in clicks] == [302, 302]
    assert clicks[0]["Location"] == clicks[1]["Location"]
    assert "Teapot" in client.get(clicks[0]["Location"]).content.decode()
    assert GuestOrder.objects.count() == 1


def test_a_corrected_form_keeps_its_key() -> None:
    """A form shown again decides nothing, so the corrected one is no conflicting reuse."""
    client, key = Client(), str(uuid.uuid4())

    page = client.post("/checkout/", {**GUEST, "email": "", "idempotency_key": key})

    assert (page.status_code, hidden_key(page)) == (200, key)
    assert 'value="Teapot"' in page.content.decode()
    fixed, again = (client.post("/checkout/", {**GUEST, "idempotency_key": key}) for _ in range(2))
    assert fixed.status_code == 302
    assert again["Location"] == fixed["Location"]
    assert GuestOrder.objects.count() == 1


def test_a_file_is_imported_once(send: Sender) -> None:
    """Two uploads of one file are one request, whatever their multipart boundaries."""
    key = new_key()

    def upload(text: str) -> Any:
        file = SimpleUploadedFile("orders.csv", text.encode(), "text/csv")
        headers = {"Idempotency-Key": key}
        return send.client.post("/orders/import/", {"file": file}, headers=headers)

    text = "email,item,quantity\na@example.com,Teapot,1\nb@example.com,Atlas,2\n"
    assert upload(text.replace("Atlas,2", "Atlas,none")).status_code == 400
    first, retry = upload(text), upload(text)

    assert json.loads(first.content) == {"imported": 2}
    assert retry.headers["Idempotent-Replayed"] == "true"
    assert GuestOrder.objects.count() == 2
