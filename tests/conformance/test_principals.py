"""Rows P of the specification: whose key it is, and who may read a replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token

from django_idempotency.models import IdempotencyKey, KeyEvent, KeyTally
from tests.conformance.test_first_and_replay import every_way
from tests.conformance.views_more import SWITCH, user_and_token
from tests.orders.models import Order
from tests.sender import Sender, new_key

pytestmark = pytest.mark.urls("tests.conformance.views_more")
guarded_way = pytest.mark.parametrize("way", ["/guarded/", "/guarded-function/"])
DRF_WAYS = ["/apiview/", "/viewset/", "/viewset/reorder/", "/function/"]


@pytest.fixture(autouse=True)
def _all_is_granted() -> Iterator[None]:
    yield
    SWITCH.clear()


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


@pytest.mark.parametrize("way", DRF_WAYS)
def test_p1_another_user_has_keys_of_her_own(send: Any, way: str) -> None:
    """P1: A then B with the same key: B's runs, and never shows A's body."""
    (_, alice), (_, bob) = user_and_token("alice"), user_and_token("bob")
    key = new_key()

    hers = send(way, key=key, Authorization=alice)
    his = send(way, key=key, Authorization=bob)

    assert (hers.status_code, his.status_code) == (201, 201)
    assert not is_replay(his)
    assert his.content != hers.content
    assert Order.objects.count() == 2


@pytest.mark.parametrize("way", ["/plain/", "/class/", "/async/"])
def test_p1_session_users_have_keys_of_their_own(send: Any, way: str) -> None:
    """P1: as above, for Django's own views."""
    key = new_key()
    answers = []
    for name in ("alice", "bob"):
        sender = Sender()
        sender.client.force_login(get_user_model().objects.create_user(name))
        answers.append(sender(way, key=key))

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not is_replay(answers[1])
    assert Order.objects.count() == 2


def test_p1_another_user_with_another_body_learns_nothing(send: Any) -> None:
    """P1: B's different body is no conflict with A's."""
    (_, alice), (_, bob) = user_and_token("alice"), user_and_token("bob")
    key = new_key()
    send("/apiview/", key=key, Authorization=alice)

    his = send("/apiview/", {"sku": "tea", "qty": 2}, key=key, Authorization=bob)

    assert his.status_code == 201
    assert Order.objects.count() == 2


@guarded_way
def test_p2_a_401_does_not_consume_the_key(send: Any, way: str) -> None:
    """P2: without credentials 401, then the valid request runs."""
    _, alice = user_and_token("alice")
    key = new_key()

    assert send(way, key=key).status_code == 401
    assert not IdempotencyKey.objects.exists()
    accepted = send(way, key=key, Authorization=alice)

    assert accepted.status_code == 201
    assert not is_replay(accepted)
    assert Order.objects.count() == 1


@guarded_way
@pytest.mark.parametrize(("taken", "status"), [("permission", 403), ("throttle", 429)])
def test_p3_p4_a_403_or_429_does_not_consume_the_key(
    send: Any, way: str, taken: str, status: int
) -> None:
    """P3, P4: denied or throttled, then allowed: it runs; DRF's Retry-After is kept."""
    _, alice = user_and_token("alice")
    key = new_key()

    SWITCH[taken] = False
    refused = send(way, key=key, Authorization=alice)
    assert refused.status_code == status
    assert refused.get("Retry-After") == ("7" if status == 429 else None)
    assert not IdempotencyKey.objects.exists()
    SWITCH.clear()
    accepted = send(way, key=key, Authorization=alice)

    assert accepted.status_code == 201
    assert not is_replay(accepted)
    assert Order.objects.count() == 1


@guarded_way
def test_p5_a_revoked_token_gets_no_replay(send: Any, way: str) -> None:
    """P5: 401 and nothing of the stored body."""
    user, alice = user_and_token("alice")
    key = new_key()
    first = send(way, key=key, Authorization=alice)
    Token.objects.filter(user=user).delete()

    replay = send(way, key=key, Authorization=alice)

    assert (first.status_code, replay.status_code) == (201, 401)
    assert not is_replay(replay)
    assert b"sku" not in replay.content
    assert IdempotencyKey.objects.get().replay_count == 0


@guarded_way
def test_p6_a_lost_permission_gets_no_replay(send: Any, way: str) -> None:
    """P6: 403 and nothing of the stored body."""
    _, alice = user_and_token("alice")
    key = new_key()
    send(way, key=key, Authorization=alice)
    SWITCH["permission"] = False

    replay = send(way, key=key, Authorization=alice)

    assert replay.status_code == 403
    assert not is_replay(replay)
    assert b"sku" not in replay.content
    assert Order.objects.count() == 1


def test_p7_object_permissions_are_asked_before_a_replay(send: Any) -> None:
    """P7: can_replay() says no: 403, no body, and yes again: the replay."""
    _, alice = user_and_token("alice")
    key = new_key()
    send("/object/", key=key, Authorization=alice)

    SWITCH["object"] = False
    refused = send("/object/", key=key, Authorization=alice)
    SWITCH.clear()
    replay = send("/object/", key=key, Authorization=alice)

    assert refused.status_code == 403
    assert refused.json()["type"].endswith("/replay-forbidden")
    assert b"sku" not in refused.content
    assert not is_replay(refused)
    assert is_replay(replay)
    assert Order.objects.count() == 1


@guarded_way
def test_p8_a_throttled_replay_leaves_the_record_alone(send: Any, way: str) -> None:
    """P8: 429; nothing is counted, and the replay is there afterwards."""
    _, alice = user_and_token("alice")
    key = new_key()
    send(way, key=key, Authorization=alice)
    before = IdempotencyKey.objects.values().get()

    SWITCH["throttle"] = False
    assert send(way, key=key, Authorization=alice).status_code == 429
    assert IdempotencyKey.objects.values().get() == before
    assert IdempotencyKey.objects.get().replay_count == 0
    SWITCH.clear()

    assert is_replay(send(way, key=key, Authorization=alice))
    assert Order.objects.count() == 1


@every_way
def test_p9_visitors_share_one_scope(send: Any, way: str) -> None:
    """P9: a long key works without credentials, from wherever it is sent again."""
    key = new_key()
    send(way, key=key)

    again = Sender()(way, key=key)

    assert is_replay(again)
    assert Order.objects.count() == 1


@every_way
@pytest.mark.parametrize(("length", "status"), [(15, 400), (16, 201)])
def test_p9_a_visitors_key_must_be_hard_to_guess(
    send: Any, way: str, length: int, status: int
) -> None:
    """P9: 16 characters are enough, 15 are refused with the reason."""
    response = send(way, key="k" * length)

    assert response.status_code == status
    assert Order.objects.count() == (1 if status == 201 else 0)
    if status == 400:
        assert response.json()["type"].endswith("/key-too-short")
        assert "16" in response.json()["detail"]
        assert not IdempotencyKey.objects.exists()


def test_p9_a_users_key_may_be_short(send: Any) -> None:
    """P9: the length is asked of visitors only."""
    _, alice = user_and_token("alice")

    assert send("/apiview/", key="k", Authorization=alice).status_code == 201


@every_way
def test_p9_visitors_can_be_refused(send: Any, settings: Any, way: str) -> None:
    """P9: ANONYMOUS="reject": 400 with a key, free without."""
    settings.IDEMPOTENCY = {"ANONYMOUS": "reject"}

    refused = send(way, key=new_key())

    assert refused.status_code == 400
    assert refused.json()["type"].endswith("/anonymous")
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert send(way).status_code == 201


def test_p9_the_reject_setting_leaves_users_alone(send: Any, settings: Any) -> None:
    """P9: ANONYMOUS="reject" concerns visitors only."""
    settings.IDEMPOTENCY = {"ANONYMOUS": "reject"}
    _, alice = user_and_token("alice")

    assert send("/apiview/", key=new_key(), Authorization=alice).status_code == 201


@every_way
def test_p9_visitors_can_be_told_apart_by_session(send: Any, settings: Any, way: str) -> None:
    """P9: ANONYMOUS="session": one session replays, another executes."""
    settings.IDEMPOTENCY = {"ANONYMOUS": "session"}
    key = new_key()

    first, retry = send(way, key=key), send(way, key=key)
    other = Sender()(way, key=key)

    assert (first.status_code, retry.status_code, other.status_code) == (201, 201, 201)
    assert (is_replay(first), is_replay(retry), is_replay(other)) == (False, True, False)
    assert Order.objects.count() == 2


def test_p10_one_user_by_another_scheme_is_one_principal(send: Any) -> None:
    """P10: session first, then token: a replay."""
    user, token = user_and_token("alice")
    key = new_key()
    send.client.force_login(user)
    send("/apiview/", key=key)

    assert is_replay(Sender()("/apiview/", key=key, Authorization=token))
    assert Order.objects.count() == 1


def test_p10_a_refreshed_token_is_the_same_principal(send: Any) -> None:
    """P10, M12: a new token of the same user replays."""
    user, old = user_and_token("alice")
    key = new_key()
    send("/apiview/", key=key, Authorization=old)
    Token.objects.filter(user=user).delete()
    new = f"Token {Token.objects.create(user=user).key}"

    assert is_replay(send("/apiview/", key=key, Authorization=new))
    assert Order.objects.count() == 1


def test_p10_the_scope_callable_decides(send: Any, settings: Any) -> None:
    """P10: tenants: two tenants are apart, two users of one tenant are together."""
    settings.IDEMPOTENCY = {"SCOPE": lambda request: f"tenant:{request.headers['X-Tenant']}"}
    (_, alice), (_, bob) = user_and_token("alice"), user_and_token("bob")
    key = new_key()

    send("/apiview/", key=key, Authorization=alice, X_Tenant="one")
    colleague = send("/apiview/", key=key, Authorization=bob, X_Tenant="one")
    stranger = send("/apiview/", key=key, Authorization=alice, X_Tenant="two")

    assert (is_replay(colleague), is_replay(stranger)) == (True, False)
    assert Order.objects.count() == 2


@pytest.mark.parametrize("scope", ["user", "user+route"])
def test_p11_a_new_user_with_an_old_pk_inherits_nothing(
    send: Any, settings: Any, scope: str
) -> None:
    """P11: deleted user, primary key used again: the request runs."""
    settings.IDEMPOTENCY = {"SCOPE": scope}
    key = new_key()
    old, token = user_and_token("alice", pk=77)
    send("/apiview/", key=key, Authorization=token)
    old.delete()
    _, token = user_and_token("mallory", pk=77)

    response = send("/apiview/", key=key, Authorization=token)

    assert response.status_code == 201
    assert not is_replay(response)
    assert Order.objects.count() == 2


def test_p11_no_response_is_read_to_be_forgotten(send: Any) -> None:
    """P11: it may be four megabytes, and there may be thousands; the trail goes, too."""
    user, token = user_and_token("alice")
    key = new_key()
    for _ in range(2):
        send("/apiview/", key=key, Authorization=token)

    with CaptureQueriesContext(connection) as captured:
        user.delete()

    assert not any("response_body" in query["sql"] for query in captured.captured_queries)
    assert not IdempotencyKey.objects.exists()
    assert not KeyEvent.objects.exists()
    assert not KeyTally.objects.exists()


def test_p11_users_deleted_in_bulk_leave_nothing_either(send: Any) -> None:
    """P11: QuerySet.delete() is no way around."""
    key = new_key()
    _, token = user_and_token("alice", pk=77)
    send("/apiview/", key=key, Authorization=token)
    get_user_model().objects.all().delete()
    _, token = user_and_token("mallory", pk=77)

    assert not is_replay(send("/apiview/", key=key, Authorization=token))
    assert Order.objects.count() == 2
