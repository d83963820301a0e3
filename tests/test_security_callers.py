"""Security rows S1-S4, S13, S24: who gets what from a key, and who learns that it exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.http import JsonResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from rest_framework.authtoken.models import Token
from rest_framework.permissions import IsAuthenticated
from rest_framework.throttling import UserRateThrottle

from django_idempotency import idempotent
from django_idempotency.models import IdempotencyKey
from tests.conformance.views_more import user_and_token
from tests.orders.models import Order
from tests.orders.views import OrderAPIView, plain_answer
from tests.sender import ROWS, Sender, new_key

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("nobody_is_throttled")]
BY_TOKEN = ["/apiview/", "/function/"]
BY_SESSION = ["/plain/", "/async/"]
every_kind = pytest.mark.parametrize("way", [*BY_TOKEN, *BY_SESSION])


class ThreeAMinute(UserRateThrottle):
    rate = "3/min"


class Throttled(OrderAPIView):
    permission_classes = [IsAuthenticated]
    throttle_classes = [ThreeAMinute]


@idempotent
def guarded_by_csrf(request: Any) -> Any:
    return plain_answer(request)


urlpatterns = [
    path("throttled/", Throttled.as_view()),
    path("csrf/", guarded_by_csrf),
    path("", include("tests.urls")),
]


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


def callers(way: str) -> dict[str, Any]:
    """Functions that post as Alice, as Bob, and as nobody."""
    senders: dict[str, Any] = {"nobody": Sender()}
    for name in ("alice", "bob"):
        user, token = user_and_token(name)
        sender = Sender()
        if way in BY_TOKEN:
            sender.client.defaults["HTTP_AUTHORIZATION"] = token
        else:
            sender.client.force_login(user)
        senders[name] = sender
    return senders


@every_kind
@pytest.mark.parametrize("squatter", ["bob", "nobody"])
def test_s1_s2_a_key_is_its_callers_own(send: Any, way: str, squatter: str) -> None:
    """S1, S2: whoever came first, another user or nobody, each has his own execution and body."""
    as_ = callers(way)
    key = new_key()

    first = as_[squatter](way, key=key)
    hers = as_["alice"](way, key=key)
    again, retry = as_[squatter](way, key=key), as_["alice"](way, key=key)

    assert (first.status_code, hers.status_code) == (201, 201)
    assert not is_replay(hers)
    assert hers.content != first.content
    assert (again.content, is_replay(again)) == (first.content, True)
    assert (retry.content, is_replay(retry)) == (hers.content, True)
    assert Order.objects.count() == 2


def test_s3_a_deactivated_user_gets_no_replay(send: Any) -> None:
    """S3: 401, and nothing of the stored body; the same for a token that was deleted."""
    user, token = user_and_token("alice")
    key = new_key()
    assert send("/throttled/", key=key, Authorization=token).status_code == 201
    user.is_active = False
    user.save()
    inactive = send("/throttled/", key=key, Authorization=token)
    user.is_active = True
    user.save()
    Token.objects.all().delete()
    revoked = send("/throttled/", key=key, Authorization=token)

    for refused in (inactive, revoked):
        assert refused.status_code == 401
        assert not is_replay(refused)
        assert b"sku" not in refused.content
    assert IdempotencyKey.objects.get().replay_count == 0


@pytest.mark.parametrize("way", BY_SESSION)
def test_s3_a_session_that_ended_gets_no_replay(send: Any, way: str) -> None:
    """S3: of a deactivated user, or logged out: a stranger, who runs his own request."""
    user, _ = user_and_token("alice")
    sender, key = Sender(), new_key()
    sender.client.force_login(user)
    first = sender(way, key=key)
    assert is_replay(sender(way, key=key))
    user.is_active = False
    user.save()

    stranger = sender(way, key=key)

    assert not is_replay(stranger)
    assert stranger.content != first.content


def test_s3_a_throttle_counts_replays(send: Any) -> None:
    """S3: three requests a minute are one execution and two replays; the fourth is too many."""
    _, token = user_and_token("alice")
    key = new_key()

    answers = [send("/throttled/", key=key, Authorization=token) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    assert [is_replay(answer) for answer in answers] == [False, True, True, False]
    assert b"sku" not in answers[3].content
    assert answers[3]["Retry-After"].isdigit()
    assert send("/throttled/", key=new_key(), Authorization=token).status_code == 429
    assert Order.objects.count() == 1


def without(response: Any, key: str) -> tuple[Any, ...]:
    """Everything that a client sees of a response, less its own key."""
    headers = sorted((name, value.replace(key, "KEY")) for name, value in response.items())
    cookies = sorted(response.cookies)
    return response.status_code, response.reason_phrase, headers, cookies, response.content


@every_kind
@pytest.mark.parametrize("state", ["finished", "failed", "finished with another body"])
def test_s4_a_foreign_key_is_like_an_unknown_one(
    send: Any, after: Any, way: str, state: str
) -> None:
    """S4: status, each header, the body: equal but for the key that the client itself sent."""
    as_ = callers(way)
    foreign, unknown = new_key(), new_key()
    status = 500 if state == "failed" else 201
    after(lambda request, order: JsonResponse({"always": "the same"}, status=status))
    other = {"sku": "tea", "qty": 9} if "another" in state else ROWS
    as_["bob"](way, other, key=foreign)
    after(lambda request, order: JsonResponse({"always": "the same"}, status=201))

    to_foreign, to_unknown = (as_["alice"](way, key=key) for key in (foreign, unknown))
    assert without(to_foreign, foreign) == without(to_unknown, unknown)

    replays = [as_["alice"](way, key=key) for key in (foreign, unknown)]
    conflicts = [as_["alice"](way, {"sku": "x"}, key=key) for key in (foreign, unknown)]
    for first, second in (replays, conflicts):
        assert without(first, foreign) == without(second, unknown)
    assert [answer.status_code for answer in (*replays, *conflicts)] == [201, 201, 422, 422]


def statements(act: Any) -> list[str]:
    """The text of what ``act`` sends to the database, without values."""
    with CaptureQueriesContext(connection) as captured:
        act()
    texts = (query["sql"] for query in captured.captured_queries)
    values = r"'(?:[^']|'')*'(::\w+)?|\b\d+\b|\bs\d+_x\d+\b"  # the last: names of savepoints
    return [re.sub(values, "?", text) for text in texts]


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_s4_s24_a_foreign_key_costs_what_an_unknown_one_costs(send: Any, way: str) -> None:
    """S4, S24: the same statements in the same order, so there is no time to tell them apart by."""
    as_ = callers(way)
    foreign = new_key()
    as_["bob"](way, key=foreign)
    as_["alice"](way, key=new_key())  # what is cached per process is there

    unknown = statements(lambda: as_["alice"](way, key=new_key()))

    assert statements(lambda: as_["alice"](way, key=foreign)) == unknown


# It ends with its statement, or with the part of a WITH that it stands in.
_CONDITION = r"(?:WHERE|JOIN \S+ ON) (.*?)(?=$| FOR | ON CONFLICT|\), \w+ AS \()"


@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_s24_keys_are_found_by_digest_alone(send: Any, way: str) -> None:
    """S24: no statement compares a key, a scope or a body; what is searched is a digest.

    How long a comparison takes can then tell at most how far two digests agree, and nobody can
    choose those. Whether the machine keeps time constant is beyond what a test can show.
    """
    key = new_key()

    def use() -> None:
        for body in (None, None, {"sku": "other"}):
            send(way, body, key=key)

    with CaptureQueriesContext(connection) as captured:
        use()
    table = IdempotencyKey._meta.db_table
    texts = [query["sql"].replace("`", '"') for query in captured.captured_queries]
    conditions = [
        condition
        for text in texts
        if f'"{table}"' in text
        for condition in re.findall(_CONDITION, text)
    ]
    searched = {name for text in conditions for name in re.findall(r'"(\w+)" (?:=|IN|LIKE)', text)}

    assert "id" in searched
    assert not searched & {"key", "scope", "path", "response_body", "request_record"}
    assert not [text for text in conditions if key in text]


@pytest.mark.parametrize("way", ["/apiview/", "/csrf/"])
def test_s13_a_replay_needs_a_csrf_token(send: Any, way: str) -> None:
    """S13: by session, without the token: 403 instead of the stored response."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_user("alice"))
    token = "a" * 32
    client.cookies["csrftoken"] = token
    key = {"Idempotency-Key": new_key()}
    good = key | {"X-CSRFToken": token}

    def post(headers: Any) -> Any:
        return client.post(way, ROWS, content_type="application/json", headers=headers)

    assert post(key).status_code == 403
    assert not IdempotencyKey.objects.exists()
    assert post(good).status_code == 201
    forged = [post(key), post(key | {"X-CSRFToken": "b" * 32})]
    replay = post(good)

    for refused in forged:
        assert refused.status_code == 403
        assert not is_replay(refused)
        assert b"sku" not in refused.content
    assert is_replay(replay)
    assert IdempotencyKey.objects.get().replay_count == 1
    assert Order.objects.count() == 1
