"""Row E11 of the specification: each problem is met for real, and its type leads to its page."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

import django_idempotency
from django_idempotency import exceptions
from django_idempotency.conf import Settings
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.models import IdempotencyKey
from tests.commit_proxy import losing_the_commit
from tests.conformance.test_crashes import die, in_child
from tests.conformance.views_more import SWITCH, Gate, user_and_token
from tests.sender import Sender, new_key

pytestmark = [pytest.mark.row_locks, pytest.mark.urls("tests.conformance.views_more")]

ROOT = Path(django_idempotency.__file__).resolve().parent
PAGES = ROOT.parent / "docs" / "problems"
Meet = Callable[[Any, Any, Any], Any]  # (send, settings, after) -> the response


def missing(send: Any, settings: Any, after: Any) -> Any:
    return send("/required/")


def invalid(send: Any, settings: Any, after: Any) -> Any:
    return send("/plain/", key='"broken')


def too_short(send: Any, settings: Any, after: Any) -> Any:
    return send("/plain/", key="short")


def anonymous(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"ANONYMOUS": "reject"}
    return send("/plain/", key=new_key())


def in_progress(send: Any, settings: Any, after: Any) -> Any:
    key, gate = new_key(), Gate()
    after(gate)
    with gate.hold("/plain/", key=key):
        return send("/plain/", key=key)


def reused(send: Any, settings: Any, after: Any) -> Any:
    key = new_key()
    send("/plain/", key=key)
    return send("/plain/", {"sku": "other"}, key=key)


def expired(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"ON_EXPIRED": "reject"}
    key = new_key()
    send("/plain/", key=key)
    for record in IdempotencyKey.objects.filter(key=key):
        IdempotencyKey.objects.filter(pk=record.pk).update(
            created_at=record.created_at - timedelta(days=9),
            expires_at=record.expires_at - timedelta(days=9),
        )
    return send("/plain/", key=key)


def not_stored(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"MAX_RESPONSE_BYTES": 0}
    key = new_key()
    send("/plain/", key=key)
    return send("/plain/", key=key)


def forbidden(send: Any, settings: Any, after: Any) -> Any:
    _, alice = user_and_token(new_key())
    key = new_key()
    send("/object/", key=key, Authorization=alice)
    SWITCH["object"] = False
    try:
        return send("/object/", key=key, Authorization=alice)
    finally:
        SWITCH.clear()


def failed(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"STORE_5XX": True}

    def fail(request: Any, order: Any) -> None:
        raise RuntimeError

    after(fail)
    return send("/plain/", key=new_key())


def exhausted(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"MAX_CRASHES": 1, "IN_FLIGHT": "wait"}
    key = new_key()
    after(die)
    in_child(lambda: Sender()("/plain/", key=key))
    return send("/plain/", key=key)


def too_many(send: Any, settings: Any, after: Any) -> Any:
    settings.IDEMPOTENCY = {"KEYS_PER_SCOPE": 1}
    send("/plain/", key=new_key())
    return send("/plain/", key=new_key())


def unavailable(send: Any, settings: Any, after: Any) -> Any:
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "HOST", "/nowhere/at/all")
        response = send("/plain/", key=new_key())
        connection.close()
    return response


def unknown(send: Any, settings: Any, after: Any) -> Any:
    with losing_the_commit("before"):
        return send("/plain/", key=new_key())


WAYS_TO_MEET: dict[str, Meet] = {
    "key-missing": missing,
    "key-invalid": invalid,
    "key-too-short": too_short,
    "anonymous": anonymous,
    "too-many-keys": too_many,
    "in-progress": in_progress,
    "key-reused": reused,
    "key-expired": expired,
    "attempts-exhausted": exhausted,
    "result-not-stored": not_stored,
    "replay-forbidden": forbidden,
    "execution-failed": failed,
    "store-unavailable": unavailable,
    "outcome-unknown": unknown,
}


def kinds(cls: type[IdempotencyError] = IdempotencyError) -> Iterator[type[IdempotencyError]]:
    for kind in cls.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_e11_the_list_below_is_all_that_the_code_can_emit() -> None:
    """E11: every subclass, wherever it is defined, has a slug of its own, met here, and a page."""
    ours = [kind for kind in kinds() if kind.__module__.startswith("django_idempotency")]
    slugs = [kind.slug for kind in ours]

    assert {kind.__module__ for kind in ours} == {exceptions.__name__}
    assert sorted(slugs) == sorted(set(slugs)) == sorted(WAYS_TO_MEET)
    assert sorted(page.stem for page in PAGES.iterdir()) == sorted(slugs)


@pytest.mark.parametrize(
    "slug",
    [
        # The proxy that loses a COMMIT speaks PostgreSQL's protocol.
        pytest.param(slug, marks=pytest.mark.postgres if slug == "outcome-unknown" else ())
        for slug in WAYS_TO_MEET
    ],
)
def test_e11_a_type_leads_to_its_page(send: Any, settings: Any, after: Any, slug: str) -> None:
    """E11: the type of a real answer, less DOCS_URL, is a page headed by that answer's title."""
    meet = WAYS_TO_MEET[slug]
    response, again = meet(send, settings, after), meet(send, settings, after)

    problem = response.json()
    assert response["Content-Type"] == "application/problem+json"
    assert problem["type"] == Settings().DOCS_URL + slug
    assert response["Link"] == f'<{problem["type"]}>; rel="describedby"'
    assert response["Cache-Control"] == "no-store"
    assert problem["status"] == response.status_code
    lines = (PAGES / f"{slug}.md").read_text().splitlines()
    assert lines[0] == f"# {problem['title']}"
    assert lines[2].startswith(f"Status {response.status_code}, code `{problem['code']}`")
    assert ("Retry-After" in response) == ("Retry-After" in lines[2])
    assert {**again.json(), "detail": ""} == {**problem, "detail": ""}


def test_e11_titles_are_constant() -> None:
    """E11: nothing assigns a title or a slug but the class bodies of the exceptions."""
    for source in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert node.attr not in {"title", "slug"}, source
    for kind in kinds():
        assert isinstance(kind.title, str), kind
        assert "{" not in kind.title, kind
