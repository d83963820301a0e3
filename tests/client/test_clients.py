"""requests, httpx and async httpx against a real socket: one suite, the same promises."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import requests

from django_idempotency.client import (
    AsyncRetryingClient,
    OutcomeUnknown,
    RetryBudget,
    RetryingClient,
    RetryPolicy,
)
from tests.client.conftest import TRUST, Send, _by_async_httpx, _by_httpx
from tests.client.server import Script, answer, cut_short, drop, stall

Serve = Callable[..., Script]
BODY = {"amount": 1250}
QUICK = RetryPolicy(base=0.01, cap=0.02, deadline=1, timeout=0.2, connect_timeout=0.2)


@pytest.mark.parametrize(
    "fault",
    [drop, cut_short, answer(500), answer(503), answer(429), answer(409, Retry_After="0")],
    ids=["drop", "cut short", "500", "503", "429", "409 in flight"],
)
def test_a_fault_is_retried_with_the_same_key_and_bytes(
    send: Send, serve: Serve, pauses: list[float], fault: Any
) -> None:
    """Twice a fault, then the answer: three requests that differ in nothing."""
    script = serve(fault, fault, answer(201, b'{"id": 1}'))

    response = send(script.url, json=BODY)

    assert (response.status_code, response.json()) == (201, {"id": 1})
    assert len(script.seen) == 3
    assert script.seen[0] == script.seen[1] == script.seen[2]
    assert len(script.seen[0].key or "") == 36
    assert len(pauses) == 2


def test_each_operation_has_a_key_of_its_own(send: Send, serve: Serve) -> None:
    """Made outside the loop, and never twice the same."""
    script = serve(answer(201))

    send(script.url, json=BODY)
    send(script.url, json=BODY)
    send(script.url, json=BODY, idempotency_key="stored-with-the-order")

    keys = [seen.key for seen in script.seen]
    assert len(set(keys)) == 3
    assert keys[2] == "stored-with-the-order"


def generated() -> Any:
    yield b"first,"
    yield b"second"


@pytest.mark.parametrize(
    "body",
    [
        lambda: {"json": BODY},
        lambda: {"data": {"amount": "1250"}},
        lambda: {"files": {"file": ("orders.csv", io.BytesIO(b"tea,1\n"))}, "data": {"a": "b"}},
        dict,
    ],
    ids=["json", "form", "multipart", "no body"],
)
def test_the_body_is_frozen(send: Send, serve: Serve, pauses: Any, body: Any) -> None:
    """Also a multipart boundary, which is random, and a file, which can be read once."""
    script = serve(answer(503), drop, answer(201))

    send(script.url, **body())

    first, *others = script.seen
    assert len(others) == 2
    assert all(other == first for other in others)
    assert first.body or not body()


@pytest.fixture
def raw(request: pytest.FixtureRequest) -> str:
    """The option that takes a body as it is."""
    return "data" if "requests" in request.node.name else "content"


@pytest.mark.parametrize("stream", [generated, lambda: io.BytesIO(b"first,second")])
def test_a_stream_is_read_once_and_sent_each_time(
    send: Send, serve: Serve, pauses: Any, raw: str, stream: Any
) -> None:
    """A generator would be empty in the second attempt."""
    script = serve(answer(503), answer(201))

    send(script.url, **{raw: stream()})

    assert [seen.body for seen in script.seen] == [b"first,second"] * 2
    assert "transfer-encoding" not in script.seen[0].headers


async def generated_later() -> Any:
    yield b"first,"
    yield b"second"


def test_an_async_stream_is_read_once_and_sent_each_time(serve: Serve, pauses: Any) -> None:
    """By the async client; the other one says that it cannot."""
    script = serve(answer(503), answer(201))
    _by_async_httpx(script.url, content=generated_later())
    assert [seen.body for seen in script.seen] == [b"first,second"] * 2

    with pytest.raises(TypeError, match="needs the AsyncRetryingClient"):
        _by_httpx(script.url, content=generated_later())


@pytest.mark.parametrize("status", [400, 401, 402, 404, 409, 422])
def test_a_decision_is_returned_at_once(send: Send, serve: Serve, status: int) -> None:
    """One attempt, the library's own response, nothing raised."""
    script = serve(answer(status))

    assert send(script.url, json=BODY).status_code == status
    assert len(script.seen) == 1


def test_a_replayed_500_is_not_retried(send: Send, serve: Serve) -> None:
    """It is stored and would come back for ever; what it means is unknown."""
    script = serve(answer(500, Idempotent_Replayed="true"))

    with pytest.raises(OutcomeUnknown, match="settles nothing") as caught:
        send(script.url, json=BODY)

    assert len(script.seen) == 1
    assert caught.value.may_have_happened
    assert caught.value.response.status_code == 500


def test_a_redirect_is_an_answer(send: Send, serve: Serve) -> None:
    """Nobody sends the key to another place."""
    script = serve(answer(307, Location="/elsewhere"))

    assert send(script.url, json=BODY).status_code == 307
    assert len(script.seen) == 1


@pytest.mark.parametrize("status", [409, 429, 503])
def test_retry_after_is_a_minimum(
    send: Send, serve: Serve, pauses: list[float], status: int
) -> None:
    """In seconds and as a date, longer than any backoff would be."""
    now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
    dates = {"Retry_After": format_datetime(now + dt.timedelta(seconds=12), usegmt=True)}
    script = serve(answer(status, Retry_After="9"), answer(status, **dates), answer(201))

    send(script.url, json=BODY, options={"policy": RetryPolicy(cap=0.5)})

    # http.server adds a Date of its own, which is what a date counts from.
    assert 9 <= pauses[0] <= 9.9
    assert len(pauses) == 2


def test_exhausted_is_unknown_and_carries_the_key(
    send: Send, serve: Serve, pauses: list[float]
) -> None:
    """Not failed: attempts, last error, what to do; the library's error is the cause."""
    script = serve(drop)

    with pytest.raises(OutcomeUnknown) as caught:
        send(script.url + "?card=4242", json=BODY, idempotency_key="stored")

    unknown = caught.value
    assert (unknown.key, unknown.attempts, len(script.seen)) == ("stored", 5, 5)
    assert unknown.may_have_happened
    assert unknown.__cause__ is not None
    assert type(unknown.__cause__).__name__ in unknown.last_error
    assert "Send the same request with the key stored again" in str(unknown)
    assert "4242" not in unknown.operation


def test_no_connection_is_told_apart(send: Send, pauses: list[float], unused_port: int) -> None:
    """All attempts failed to connect: the operation cannot have taken place."""
    with pytest.raises(OutcomeUnknown, match="no attempt was accepted") as caught:
        send(f"http://127.0.0.1:{unused_port}/pay", json=BODY)

    assert caught.value.attempts == 5
    assert not caught.value.may_have_happened


@pytest.fixture
def unused_port() -> Any:
    import socket

    with socket.socket() as bound:  # bound and not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_silent_server_meets_the_time_out(send: Send, serve: Serve) -> None:
    """Per attempt, and then the next attempt succeeds."""
    script = serve(stall, answer(201))

    started = time.monotonic()
    assert send(script.url, json=BODY, options={"policy": QUICK}).status_code == 201

    assert 0.2 <= time.monotonic() - started < 1
    assert len(script.seen) == 2


def test_the_deadline_is_kept(send: Send, serve: Serve) -> None:
    """By a server that never answers, with a time-out that would allow more."""
    script = serve(stall)
    policy = RetryPolicy(base=0.01, cap=0.02, deadline=1.5, timeout=1.3, connect_timeout=0.2)

    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        send(script.url, json=BODY, options={"policy": policy})

    # A second attempt that was not cut to what is left would end after 2.6 s.
    assert time.monotonic() - started < 1.5 + 0.8  # of slack for a busy machine
    assert len(script.seen) == 2


def test_compressed_and_chunked_answers_arrive_whole(send: Send, serve: Serve) -> None:
    """The client reads bodies piece by piece; nothing of them is lost."""
    text = b'{"id": 1, "note": "' + b"x" * 50_000 + b'"}'
    packed = gzip.compress(text)

    def chunked(handler: Any) -> None:
        handler.send_response(201)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(text), 7000):
            piece = text[start : start + 7000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    script = serve(answer(201, packed, Content_Encoding="gzip"), chunked, answer(204, b""))

    assert [send(script.url, json=BODY).content for _ in range(3)] == [text, text, b""]
    assert len(script.seen) == 3


def test_an_unserialisable_body_is_refused_before_anything_is_sent(
    send: Send, serve: Serve, raw: str
) -> None:
    """With the rule in the message."""
    script = serve(answer(201))
    bodies: list[dict[str, Any]] = [
        {"json": {"when": dt.datetime.now(dt.UTC)}},
        {"json": {"amount": float("nan")}},
        {raw: 5},
        {raw: (text for text in ("a", "b"))},  # no bytes
    ]
    for body in bodies:
        with pytest.raises(TypeError, match="The body must be made of what the HTTP library can"):
            send(script.url, **body)
    assert script.seen == []


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"method": "GET"}, ValueError, "a GET needs no key"),
        ({"headers": {"idempotency-key": "k"}}, ValueError, "Give the key as idempotency_key="),
        ({"headers": {b"Idempotency-Key": b"k"}}, ValueError, "Give the key as idempotency_key="),
        ({"headers": [("Idempotency-Key", "k")]}, ValueError, "Give the key as idempotency_key="),
        ({"idempotency_key": ""}, ValueError, "1 to 255"),
        ({"timeout": 5}, TypeError, r"use RetryPolicy\(timeout="),
        ({"stream": True}, TypeError, "arrived whole"),
        ({"follow_redirects": True}, TypeError, "a redirect is the answer"),
    ],
)
def test_wrong_calls_are_refused(
    send: Send, serve: Serve, options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """Before anything is sent."""
    script = serve(answer(201))
    with pytest.raises(error, match=rule):
        send(script.url, **options)
    assert script.seen == []


def test_bad_urls_are_the_librarys_own_errors(send: Send, pauses: list[float]) -> None:
    """No retry, no OutcomeUnknown: nothing was sent."""
    with pytest.raises((requests.RequestException, httpx.HTTPError, httpx.InvalidURL)):
        send("nowhere", json=BODY)
    assert pauses == []


def test_the_header_can_have_another_name(send: Send, serve: Serve) -> None:
    """PayPal calls it PayPal-Request-Id."""
    script = serve(answer(201))
    send(script.url, idempotency_key="k", options={"header": "PayPal-Request-Id"})
    assert script.seen[0].headers["paypal-request-id"] == "k"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_writes_have_keys_too(send: Send, serve: Serve, method: str) -> None:
    """Keys are for every write that must not happen twice."""
    script = serve(answer(200))
    send(script.url, method=method)
    assert script.seen[0].line.startswith(method)
    assert script.seen[0].key


def test_the_verbs_are_short_for_request(serve: Serve) -> None:
    """On the sync and on the async client."""
    script = serve(answer(200))
    verbs = ("post", "put", "patch", "delete")
    with RetryingClient(httpx.Client(verify=TRUST)) as client:
        for verb in verbs:
            getattr(client, verb)(script.url)

    async def both() -> None:
        async with AsyncRetryingClient(httpx.AsyncClient(verify=TRUST)) as aclient:
            for verb in verbs:
                await getattr(aclient, verb)(script.url)

    asyncio.run(both())
    lines = [seen.line.partition(" ")[0].lower() for seen in script.seen]
    assert lines == [*verbs, *verbs]


def test_clients_share_a_budget(serve: Serve, pauses: list[float]) -> None:
    """What one has used up, the other cannot spend."""
    script = serve(answer(503))
    budget = RetryBudget(0.1, burst=4)
    for _ in range(2):
        with (
            pytest.raises(OutcomeUnknown),
            RetryingClient(httpx.Client(verify=TRUST), budget=budget) as client,
        ):
            client.post(script.url)
    assert len(script.seen) == 5 + 1


@pytest.mark.parametrize(
    ("wrapper", "http"),
    [
        (RetryingClient, object()),
        (RetryingClient, httpx.AsyncClient),
        (AsyncRetryingClient, requests.Session),
        (AsyncRetryingClient, httpx.Client),
    ],
)
def test_only_a_client_of_a_known_library_is_wrapped(wrapper: Any, http: Any) -> None:
    """Sync into sync, async into async."""
    with pytest.raises(TypeError, match=r"needs an? (?!.*Install)"):
        wrapper(http() if isinstance(http, type) else http)


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"policy": 5}, TypeError, "policy must be a RetryPolicy, not 5"),
        ({"budget": 0.1}, TypeError, "budget must be a RetryBudget, not 0.1"),
        *[({"header": h}, ValueError, "header must be the name") for h in ("", "a b", "a\n")],
        ({"header": None}, ValueError, "header must be the name"),
    ],
)
def test_bad_arguments_are_refused_at_construction(
    options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """Not when the first payment is sent."""
    with pytest.raises(error, match=rule):
        RetryingClient(requests.Session(), **options)


def test_without_an_http_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither is a requirement of the package."""
    monkeypatch.setattr("django_idempotency.client.adapter.find_spec", lambda name: None)
    wanted = {RetryingClient: r"httpx or requests\.$", AsyncRetryingClient: r"httpx\.$"}
    for wrapper, names in wanted.items():
        with pytest.raises(TypeError, match=rf"Install it first: pip install {names}"):
            wrapper()


def test_a_cancelled_task_is_not_retried(serve: Serve) -> None:
    """Cancellation is the caller's will, not a fault of the server."""
    script = serve(stall)

    async def send() -> None:
        async with AsyncRetryingClient(httpx.AsyncClient(verify=TRUST)) as client:
            async with asyncio.timeout(0.3):
                await client.post(script.url)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(send())
    assert not isinstance(caught.value, OutcomeUnknown)
    assert len(script.seen) == 1


def test_a_cancelled_pause_is_the_end(serve: Serve) -> None:
    """The task is not kept alive until the server's Retry-After is over."""
    script = serve(answer(503, Retry_After="9"), answer(201))

    async def send() -> None:
        async with AsyncRetryingClient(httpx.AsyncClient(verify=TRUST)) as client:
            task = asyncio.create_task(client.post(script.url))
            while not script.seen:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            await task

    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(send())
    assert time.monotonic() - started < 5
    assert len(script.seen) == 1


def test_a_certificate_that_cannot_be_verified_is_not_retried(
    send: Send, self_signed: str, pauses: list[float]
) -> None:
    """A retry would meet the same impostor; the library's own error says so."""
    with pytest.raises((requests.exceptions.SSLError, httpx.ConnectError), match="verif"):
        send(self_signed, json=BODY)
    assert pauses == []


def test_the_package_can_be_imported_without_settings() -> None:
    """No Django, no settings, no other module of this package, no HTTP library."""
    code = (
        "import sys; from django_idempotency.client import *;"
        "RetryPolicy(); RetryBudget(); OutcomeUnknown; RetryingClient; AsyncRetryingClient;"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "assert not loaded & {'django', 'rest_framework', 'requests', 'httpx'}, loaded;"
        "ours = {n for n in sys.modules if n.startswith('django_idempotency.')};"
        "assert all(n.startswith('django_idempotency.client') for n in ours), ours"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})
