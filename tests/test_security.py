"""Attacks on what is stored and on who may see it; each names its row of the security table."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import django_idempotency
from django_idempotency.models import IdempotencyKey
from tests.sender import new_key


def test_s15_a_tampered_header_cannot_split_a_response(send: Any) -> None:
    """S15: a row that holds a line break gives a clean 500."""
    key = new_key()
    send("/plain/", key=key)
    IdempotencyKey.objects.update(response_headers=json.dumps([["X-A", "1\r\nSet-Cookie: a=b"]]))

    replay = send("/plain/", key=key)

    assert replay.status_code == 500
    assert "Set-Cookie" not in replay


def test_s16_nothing_is_unpickled(send: Any) -> None:
    """S16: a pickle in a row is bytes like any others, and the package never imports one."""
    key = new_key()
    send("/plain/", key=key)
    payload = pickle.dumps(object)
    IdempotencyKey.objects.update(response_body=payload)

    assert send("/plain/", key=key).content == payload
    sources = Path(django_idempotency.__file__).parent.rglob("*.py")
    assert not any("import pickle" in source.read_text() for source in sources)


def test_s25_replays_and_refusals_are_not_for_caches(send: Any) -> None:
    """S25: no-store, where the view said nothing itself."""
    key = new_key()
    send("/plain/", key=key)

    assert send("/plain/", key=key)["Cache-Control"] == "no-store"
    assert send("/plain/", {"qty": 2}, key=key)["Cache-Control"] == "no-store"


def test_s26_a_replay_is_what_it_says_it_is(send: Any, settings: Any) -> None:
    """S26: the stored media type, whatever is asked for, and no sniffing."""
    settings.SECURE_CONTENT_TYPE_NOSNIFF = False  # Django's middleware would add it
    key = new_key()
    send("/plain/", key=key)

    replay = send("/plain/", key=key, Accept="text/html")

    assert replay["Content-Type"] == "application/json"
    assert replay["X-Content-Type-Options"] == "nosniff"
    assert replay.json()["sku"] == "tea"
