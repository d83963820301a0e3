"""The judge, case by case: what is tried again, what is final, what nobody knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from django_idempotency.client.retry_after import retry_after
from django_idempotency.client.verdict import (
    Answer,
    Cause,
    Final,
    Retry,
    Unknown,
    Verdict,
    judge,
    judge_lost,
)

PROBLEM = "https://django-idempotency.readthedocs.io/en/latest/problems/"


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(status, CaseInsensitiveDict(named), content)


def problem(slug: str) -> dict[str, str]:
    return {"type": PROBLEM + slug, "title": "…"}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """With doubt where the request may have been carried out before the answer was lost."""
    assert judge(answer(status)) == Retry(doubt=status >= 500)
    assert judge(answer(status, Retry_After="7")) == Retry(7.0, doubt=status >= 500)


@pytest.mark.parametrize(
    "status", [s for s in HTTPStatus if 400 <= s < 500 and s not in {408, 425, 429}]
)
def test_other_client_errors_are_final(status: int) -> None:
    """Whatever Retry-After says, except in flight."""
    assert judge(answer(status)) == Final()
    if status not in {409, 423}:
        assert judge(answer(status, Retry_After="1")) == Final()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (answer(409, problem("in-progress")), Retry()),
        (answer(409, {"detail": "…", "code": "idempotency_in_progress"}), Retry()),
        (answer(423, problem("in-progress"), Retry_After="1"), Retry(1.0)),
        (answer(409, Retry_After="2"), Retry(2.0)),
        (answer(409, {"error": {"code": "idempotency_key_in_use"}}), Retry()),  # Stripe
        (answer(409, {"status": 409, "errorCode": "704"}), Retry()),  # Adyen
        (answer(409, problem("result-not-stored")), Unknown()),
        (answer(409, problem("outcome-unknown")), Unknown()),
        (answer(409, {"type": "about:blank"}), Final()),
        (answer(409, ["no", "object"]), Final()),
        (Answer(409, {}, b'{"type": '), Final()),
        (Answer(409, {}, b'{"a":' * 5000), Final()),
    ],
)
def test_409_is_tried_again_only_in_flight(reply: Answer, verdict: Verdict) -> None:
    """Another 409 is a fact about the resource."""
    assert judge(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (answer(201, Idempotent_Replayed="true"), Final()),
        (answer(402, Idempotent_Replayed="true"), Final()),
        (answer(500, Idempotent_Replayed="true"), Unknown()),
        (answer(503, Idempotent_Replayed="true", Retry_After="1"), Unknown()),
        (answer(500, problem("execution-failed"), Idempotent_Replayed="true"), Final()),
    ],
)
def test_a_replay_is_never_tried_again(reply: Answer, verdict: Verdict) -> None:
    """It would come back the same."""
    assert judge(reply) == verdict
    assert judge(reply, doubt=True) == verdict


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 431])
def test_a_refusal_at_the_door_says_nothing_of_an_earlier_attempt(status: int) -> None:
    """A token that expired between two attempts must not turn a payment into a failure."""
    assert judge(answer(status)) == Final()
    assert judge(answer(status), doubt=True) == Unknown()


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>400 Bad Request</h1>Request Header Or Cookie Too Large</html>",
        b'{"message": "Bad request"}',
        b"",
    ],
)
def test_a_400_that_names_no_problem_may_be_a_proxys(body: bytes) -> None:
    """nginx gives it for a cookie that has grown since the attempt whose answer was lost."""
    assert judge(Answer(400, {}, body)) == Final()
    assert judge(Answer(400, {}, body), doubt=True) == Unknown()


@pytest.mark.parametrize("slug", ["key-missing", "key-invalid", "key-too-short", "anonymous"])
def test_a_refused_key_says_nothing_of_an_earlier_attempt(slug: str) -> None:
    """A site that asks for longer keys since then has not looked for this one."""
    assert judge(answer(400, problem(slug))) == Final()
    assert judge(answer(400, problem(slug)), doubt=True) == Unknown()


@pytest.mark.parametrize(
    "reply",
    [answer(status) for status in (201, 302, 402, 410, 422)]
    + [
        answer(400, {"type": "https://shop.example/out-of-stock"}),
        answer(400, {"error": {"code": "parameter_missing"}}),  # Stripe
        answer(400, {"amount": ["Too much."]}, Idempotency_Key="k"),  # our own server's echo
        answer(400, {"amount": ["Too much."]}, Idempotent_Replayed="true"),
    ],
)
def test_a_decision_settles_earlier_doubt(reply: Answer) -> None:
    """The server has looked at the key by then."""
    assert judge(reply, doubt=True) == Final()


@pytest.mark.parametrize("status", [100, 101, 103])
def test_an_interim_answer_decides_nothing(status: int) -> None:
    """A library that hands it out has not read the real one."""
    assert judge(answer(status)) == Unknown()


@pytest.mark.parametrize("status", [501, 505, 507, 520, 524, 599])
def test_other_server_errors_are_neither_failures_nor_worth_a_retry(status: int) -> None:
    """A gateway's 524 means that it stopped waiting."""
    assert judge(answer(status)) == Unknown()


@pytest.mark.parametrize("doubt", [False, True])
@pytest.mark.parametrize(
    ("status", "slug"),
    [(422, "key-expired"), (409, "result-not-stored"), (403, "replay-forbidden")],
)
def test_an_answer_that_is_withheld_is_unknown(status: int, slug: str, *, doubt: bool) -> None:
    """4xx, and yet no failure: it was carried out, or may have been; with what result is not told.

    Neither is it a success: what is withheld may be a 402.
    """
    assert judge(answer(status, problem(slug)), doubt=doubt) == Unknown()
    coded = {"detail": "…", "code": "idempotency_" + slug.replace("-", "_")}
    assert judge(answer(status, coded), doubt=doubt) == Unknown()


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_key_of_another_request_does_not_settle_earlier_doubt(status: int) -> None:
    """The earlier attempt may be the one that holds it: a body changed between the two."""
    assert judge(answer(status, problem("key-reused"))) == Final()
    assert judge(answer(status, problem("key-reused")), doubt=True) == Unknown()


def test_a_server_that_knows_better_is_believed() -> None:
    """Stripe and Adyen say whether a retry makes sense."""
    assert judge(answer(409, Stripe_Should_Retry="true")) == Retry()
    assert judge(answer(500, Stripe_Should_Retry="false")) == Unknown()
    assert judge(answer(429, Stripe_Should_Retry="false")) == Final()
    assert judge(answer(422, transient_error="true")) == Retry()


def test_without_an_answer() -> None:
    """No connection is a retry without doubt; what was never sent is final; a bug is neither."""
    assert judge_lost(Cause.NOT_SENT) == Retry(doubt=False)
    assert judge_lost(Cause.LOST) == Retry(doubt=True)
    assert judge_lost(Cause.REFUSED) == Final()
    assert judge_lost(Cause.REFUSED, doubt=True) == Unknown()
    assert judge_lost(None) == judge_lost(None, doubt=True) == Unknown()


# -- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("120", 120), (" 7 ", 7), ("1.5", 1.5)]
    + [(text, None) for text in ("-1", "soon", "", "٣", "nan", "inf", "1e3")],
)
def test_seconds(value: str, seconds: float | None) -> None:
    """Digits, and the fraction that some servers send."""
    assert retry_after({"Retry-After": value}) == seconds


def test_a_date_counts_from_the_servers_own_clock() -> None:
    """Our clock may be an hour off; without the server's it has to do."""
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    later = format_datetime(now + timedelta(seconds=90), usegmt=True)
    with time_machine.travel(now - timedelta(hours=1), tick=False):
        dated = {"Retry-After": later, "Date": format_datetime(now, usegmt=True)}
        assert retry_after(dated) == 90
        assert retry_after({"Retry-After": later}) == 3690
        assert retry_after({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0


@given(st.text(), st.text())
def test_no_header_breaks_it(value: str, date: str) -> None:
    """Servers send what they like."""
    seconds = retry_after({"Retry-After": value, "Date": date})
    assert seconds is None or seconds >= 0


@given(st.binary(), st.integers(100, 599), st.booleans())
def test_no_answer_breaks_the_judge(body: bytes, status: int, doubt: bool) -> None:
    """It always has a verdict, and never a good one for an error that was not final."""
    assert isinstance(judge(Answer(status, {}, b"{" + body), doubt=doubt), Verdict)
