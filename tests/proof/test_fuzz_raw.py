"""Hostile bytes on a raw socket, before a real server: no 500, no second order, no spent key.

``PROOF_SEED`` repeats a run, ``PROOF_FUZZ_SECONDS`` prolongs it. The long one, before every
server and several ways to set it up, is ``-m proof``.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from django_idempotency.models import IdempotencyKey
from tests.proof import fuzz_families, fuzz_framing  # noqa: F401 - they enter themselves
from tests.proof.fuzz_range import Report, Site, fire, served
from tests.proof.fuzz_shots import FAMILIES, WAYS, Draft, shot, shots
from tests.proof.fuzz_wire import heard, order
from tests.sender import new_key

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SHORT = float(os.environ.get("PROOF_FUZZ_SECONDS", "3"))
LONG = float(os.environ.get("PROOF_FUZZ_SECONDS", "120"))


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    with django_db_blocker.unblock(), served("strict") as site:
        yield site


def seeded() -> int:
    return int(os.environ.get("PROOF_SEED", random.randrange(2**32)))


def tell(capsys: Any, name: str, report: Report) -> None:
    with capsys.disabled():
        print(f"\nfuzz {name}: {report}", end=" ")


def held(report: Report, site: Site) -> None:
    assert not report.violations, "\n\n".join([*report.violations[:10], site.tracebacks()])


@pytest.mark.parametrize("kind", ["strict", "lax"])
def test_hostile_requests_break_nothing(site: Site, capsys: Any, kind: str) -> None:
    """Behind gunicorn as it comes, and as careless as it can be made."""
    seed = seeded()
    with nullcontext(site) if kind == "strict" else served(kind) as target:
        report = fire(target, shots(seed), Report(seed), seconds=SHORT)
        tell(capsys, kind, report)
        held(report, target)
    assert report.executed["spelled_alike"]  # a control: what is well-formed enough does run
    assert report.statuses[400]


# -- the long run


BODIES = {"FUZZ_IDEMPOTENCY": json.dumps({"RECORD_REQUEST": "body"})}
HEADERS = {"FUZZ_IDEMPOTENCY": json.dumps({"FINGERPRINT_HEADERS": ["User-Agent", "Cookie"]})}
SITES: dict[str, tuple[str, dict[str, str]]] = {
    "strict": ("strict", {}),
    "lax": ("lax", {}),
    "asgi": ("asgi", {}),
    "atomic requests": ("lax", {"TEST_ATOMIC_REQUESTS": "1"}),
    "bodies recorded": ("lax", BODIES),
    "headers compared": ("asgi", HEADERS),
}


@pytest.mark.proof
@pytest.mark.parametrize("name", SITES)
def test_hostile_requests_break_nothing_for_minutes(capsys: Any, name: str) -> None:
    """Before WSGI and ASGI, with the settings that read most of a request."""
    seed = seeded()
    kind, environment = SITES[name]
    with served(kind, **environment) as site:
        report = fire(site, shots(seed), Report(seed), seconds=LONG)
        tell(capsys, name, report)
        held(report, site)
    assert report.shots >= len(FAMILIES) * len(WAYS)


# -- the checker is checked


CONTROLS = {
    "answers-500": ("broken_json", "answered 500"),
    "unprotected": ("pure_noise", "2 orders"),
    "each-spelling": ("spelled_alike", "2 orders of one key"),
    "keeps-refusals": ("broken_json", "the key is spent"),
    "dies": ("broken_json", "a worker died"),
}


@pytest.mark.parametrize("fault", CONTROLS)
def test_a_planted_fault_turns_the_checker_red(site: Site, fault: str) -> None:
    """Found within ten shots of the right family; and none of them hurts a sound view."""
    family, expected = CONTROLS[fault]
    chance = random.Random(fault)
    sound, aimed = (
        [shot(family, way, chance) for _ in range(10)] for way in ("/plain/", f"/fault/{fault}/")
    )

    held(fire(site, sound, Report(0), seconds=60), site)
    report = fire(site, aimed, Report(0), seconds=60)

    assert any(expected in violation for violation in report.violations), report.violations
    if fault == "dies":
        site.recrew()


def test_what_is_no_response_is_told() -> None:
    """A split response, or one with a body that nobody asked for, is not taken for two."""
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert heard(good + good).statuses == [200, 200]
    assert heard(good + b"HTTP/1.1 500 Oh\r\n\r\nno").statuses == [200, 500]
    assert heard(good[:-2]).statuses == [200]  # to HEAD
    assert heard(good + b"x" + good).garbled.startswith(b"xHTTP")
    assert heard(b"<html>").garbled


# -- what is not ours


UNREADABLE = {
    "nested JSON": ("drf", b"application/json", b"[" * 100_000),
    # Some releases of Django fail on these two, on the second before any view is found.
    "no charset": (
        *("django", b"multipart/form-data; boundary=b; charset=hex"),
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--b--\r\n',
    ),
    "RFC 2231 parameters": ("django", b"application/json; x*0=a; x*1=b; x*=c", b"{}"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_the_framework_cannot_read_is_no_worse_with_a_key(site: Site, name: str) -> None:
    """Its own answer, a 500 where it fails; the key stays free."""
    kind, media_type, body = UNREADABLE[name]
    key = new_key()

    answers = []
    for way in (f"/bare/{kind}/", f"/keyed/{kind}/"):
        draft = Draft(random.Random(0), key.encode(), b"", way.encode())
        draft.kind, draft.body = media_type, body
        answers.append(site.shoot(draft.raw()).statuses)

    assert answers[0] == answers[1]
    read = answers[0] == [200]
    assert IdempotencyKey.objects.completed().exists() is read
    again = order(site.port, "/plain/", key, "fuzz-0123456789abcdefx")
    assert again.status == (422 if read else 201)
