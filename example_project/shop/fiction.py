"""What the fictional clients of the demo ask for, and what they are answered."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

__all__ = ["ENDPOINTS", "Answer", "Client", "Endpoint", "altered"]

_ITEMS = ("Assam tea", "Green tea", "Teapot", "Atlas", "Sunflowers", "Rye bread")
_AMOUNTS = (450, 780, 1250, 1990, 2400, 3500, 8900)  # cents
_GUESTS = ("ada", "emil", "joan", "noor", "otto", "pia")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Client:
    """One fictional client: whose keys, from where, with what."""

    scope: str
    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; ``body`` is None if it was too large to be kept."""

    status: int
    body: bytes | None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    route: str
    weight: int  # of 100 requests
    asked: Callable[[random.Random], Document]
    answered: Callable[[random.Random, Document], Answer]
    anonymous: bool = False
    days: int = 1  # of retention
    media_type: str = "application/json"


def altered(document: Document, rng: random.Random) -> Document:
    """The same request after a client's bug: another order under the old key."""
    changed = dict(document)
    name = rng.choice(list(document))
    value = document[name]
    changed[name] = value + rng.randint(1, 4) if isinstance(value, int) else f"{value} (2)"
    if "amount" in document:
        changed["amount"] = rng.choice([n for n in _AMOUNTS if n != document["amount"]])
    if rng.random() < 0.3:
        changed["coupon"] = "TEATIME"
    return changed


def _created(document: Document) -> Answer:
    return Answer(HTTPStatus.CREATED, json.dumps(document).encode())


def _payment(rng: random.Random) -> Document:
    reference = f"INV-{rng.randint(1000, 9999)}"
    return {"account": rng.randint(1, 5), "amount": rng.choice(_AMOUNTS), "reference": reference}


def _paid(rng: random.Random, asked: Document) -> Answer:
    if rng.random() < 0.05:
        poor = {"detail": "The balance is too low.", "balance": rng.randint(0, 400)}
        return Answer(HTTPStatus.PAYMENT_REQUIRED, json.dumps(poor).encode())
    return _created({"id": rng.randint(100, 999), "amount": asked["amount"]})


def _order(rng: random.Random) -> Document:
    email = f"{rng.choice(_GUESTS)}@example.com"
    return {"email": email, "item": rng.choice(_ITEMS), "quantity": rng.randint(1, 6)}


def _ordered(rng: random.Random, asked: Document) -> Answer:
    number = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return _created({"number": number, "item": asked["item"]})


def _imported(rng: random.Random, asked: Document) -> Answer:
    """Now and then a report of hundreds of lines, or one too large to be kept."""
    rows = rng.choice((12, 40, 60, 900))
    if rows == 900 and rng.random() < 0.5:
        return Answer(HTTPStatus.CREATED, None)
    lines = [{"line": n, "item": rng.choice(_ITEMS), "state": "imported"} for n in range(1, rows)]
    return _created({"imported": rows, "lines": lines})


def _label(rng: random.Random, asked: Document) -> Answer:
    return Answer(HTTPStatus.OK, b"%PDF-1.7\n" + rng.randbytes(24_000), "application/pdf")


ENDPOINTS = (
    Endpoint("payments/", 56, _payment, _paid),
    Endpoint(
        "payments/<int:pk>/refunds/",
        11,
        lambda rng: {"amount": rng.choice(_AMOUNTS)},
        _paid,
        days=7,
    ),
    Endpoint("orders/guest/", 13, _order, _ordered, anonymous=True),
    Endpoint(
        "checkout/",
        9,
        _order,
        lambda rng, asked: Answer(HTTPStatus.FOUND, b"", "text/html; charset=utf-8"),
        anonymous=True,
        media_type="application/x-www-form-urlencoded",
    ),
    Endpoint("orders/async/", 5, _order, _ordered, anonymous=True),
    Endpoint(
        "orders/import/",
        4,
        lambda rng: {"file": f"orders-{rng.randint(1, 99)}.csv"},
        _imported,
        media_type="multipart/form-data",
    ),
    Endpoint("orders/labels/", 2, lambda rng: {"order": rng.randint(100, 999)}, _label),
)
