"""What no server, hook or adapter can talk the clients out of: the deadline, and honesty."""

from __future__ import annotations

import contextvars
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
import stamina
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse
from urllib3.util import Retry

from django_idempotency.client import OutcomeUnknown, RetryingClient, RetryPolicy
from django_idempotency.client.adapter import caused_by
from django_idempotency.client.operation import DeadlineReached
from django_idempotency.client.worker import within
from tests.client.conftest import TRUST, Send
from tests.client.server import Script, answer, drop, trickle

Serve = Callable[..., Script]
DEADLINE = 0.5
SLACK = 1.5  # seconds for a busy machine; the servers here trickle for 5 s
POLICY = RetryPolicy(base=0.01, cap=0.02, deadline=DEADLINE, timeout=0.4)


def trickling(head: bytes, more: bytes) -> Callable[[Any], None]:
    """A server that sends ``head`` at once and ``more`` again and again, for 5 seconds."""

    def step(handler: Any) -> None:
        handler.close_connection = True
        try:
            handler.connection.sendall(head)
            for _ in range(250):  # 5 seconds
                if handler.server.released.wait(0.02):
                    break
                handler.connection.sendall(more)
        except OSError:
            pass  # the client has hung up, as it should

    return step


DRIPS = {
    "body": trickling(b"HTTP/1.1 201 Created\r\nContent-Length: 9999\r\n\r\n", b" "),
    "chunks": trickling(
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"
    ),
    "headers": trickling(b"HTTP/1.1 201 Created\r\n", b"X-More: 1\r\n"),
    "one header": trickling(b"HTTP/1.1 201 Created\r\nX-More: ", b"1"),
    "status line": trickling(b"HTTP/1.1 201 ", b"C"),
    "interim answers": trickling(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "redirect": trickling(
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 9999\r\n\r\n", b" "
    ),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_a_trickling_answer_does_not_outlive_the_deadline(
    send: Send, serve: Serve, drip: str
) -> None:
    """Each byte is in time, and all of them are not."""
    script = serve(DRIPS[drip])

    started = time.monotonic()
    with pytest.raises(OutcomeUnknown) as caught:
        send(script.url, json={}, options={"policy": POLICY})

    assert time.monotonic() - started < DEADLINE + SLACK
    assert caught.value.may_have_happened


def test_a_trickling_attempt_leaves_time_for_another(send: Send, serve: Serve) -> None:
    """The limits of an attempt are for all of its answer, too."""
    script = serve(DRIPS["headers"], answer(201))
    policy = RetryPolicy(base=0.01, cap=0.02, deadline=5, timeout=0.2, connect_timeout=0.2)

    assert send(script.url, json={}, options={"policy": policy}).status_code == 201
    assert len(script.seen) == 2


@pytest.mark.parametrize("http", [requests.Session, lambda: httpx.Client(verify=TRUST)])
def test_a_name_server_that_is_silent_does_not_outlive_the_deadline(
    http: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking up a name has no time-out of its own. (asyncio asks in a thread as well.)"""
    released = threading.Event()

    def silent(*args: Any, **kwargs: Any) -> Any:
        released.wait(10)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", silent)
    started = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown), RetryingClient(http(), policy=POLICY) as client:
            client.post("http://nowhere.invalid/pay")
        took = time.monotonic() - started
    finally:
        released.set()
    assert took < DEADLINE + SLACK


# -- the thread of an attempt


def test_context_variables_come_along() -> None:
    """Tracing libraries keep the current span there."""
    span: contextvars.ContextVar[str] = contextvars.ContextVar("span")
    span.set("checkout")
    assert within(5, lambda: (span.get(), threading.current_thread().daemon)) == ("checkout", True)


def test_what_the_call_raises_is_raised() -> None:
    """A time-out of its own is no deadline."""

    def fail() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError) as caught:
        within(5, fail)
    assert not isinstance(caught.value, DeadlineReached)


def test_where_stamina_is_off_there_is_no_other_thread() -> None:
    """Doubles of servers look at the database connection of their test."""
    here = threading.current_thread()
    assert within(5, threading.current_thread) is not here
    with stamina.set_testing(True):
        assert within(5, threading.current_thread) is here
    stamina.set_active(False)
    try:
        assert within(5, threading.current_thread) is here
    finally:
        stamina.set_active(True)


# -- hooks


def raise_for_status(response: Any, *args: Any, **kwargs: Any) -> None:
    response.raise_for_status()


def by_httpx(url: str, hook: Any) -> Any:
    http = httpx.Client(verify=TRUST, event_hooks={"response": [hook]})
    with RetryingClient(http) as client:
        return client.post(url)


def by_requests(url: str, hook: Any) -> Any:
    session = requests.Session()
    session.hooks["response"].append(hook)
    with RetryingClient(session) as client:
        return client.post(url)


hooked = pytest.mark.parametrize("hooked", [by_httpx, by_requests])


@hooked
def test_a_hook_that_raises_for_status_is_judged_by_the_status(
    hooked: Any, serve: Serve, pauses: list[float]
) -> None:
    """503 is tried again; 402 is a refusal, in the library's own words."""
    script = serve(answer(503), answer(201))
    assert hooked(script.url, raise_for_status).status_code == 201
    assert len(script.seen) == 2

    script = serve(answer(402))
    with pytest.raises((httpx.HTTPStatusError, requests.HTTPError), match="402"):
        hooked(script.url, raise_for_status)
    assert len(script.seen) == 1


@hooked
@pytest.mark.parametrize("status", [403, 409, 422])
def test_a_hook_hides_what_a_conflict_is_about(hooked: Any, serve: Serve, status: int) -> None:
    """The body was not read, so nobody knows; the answer is there to be looked at."""
    script = serve(answer(status))
    with pytest.raises(OutcomeUnknown) as caught:
        hooked(script.url, raise_for_status)
    assert caught.value.response.status_code == status

    def read_it(response: Any, *args: Any, **kwargs: Any) -> None:
        _ = response.content if isinstance(response, requests.Response) else response.read()
        response.raise_for_status()

    with pytest.raises((httpx.HTTPStatusError, requests.HTTPError), match=str(status)):
        hooked(script.url, read_it)


# -- what the caller is handling already


def fail(error: Exception) -> None:
    raise error


def requests_impostor() -> Exception:
    return requests.exceptions.SSLError(urllib3.exceptions.SSLError("Fingerprints did not match"))


@pytest.mark.parametrize(
    "handled",
    [
        lambda: ssl.SSLCertVerificationError("the first gateway shows a bad certificate"),
        requests_impostor,
        lambda: urllib3.exceptions.NewConnectionError(None, "the first gateway is down"),  # type: ignore[arg-type]
    ],
    ids=["certificate", "fingerprint", "no connection"],
)
@pytest.mark.parametrize("testing", [False, True])
def test_the_callers_own_trouble_is_not_that_of_an_attempt(
    send: Send,
    serve: Serve,
    pauses: list[float],
    handled: Callable[[], Exception],
    *,
    testing: bool,
) -> None:
    """A second gateway is tried while the error of the first is handled, and is its context."""
    script = serve(drop)
    with stamina.set_testing(testing, attempts=2):
        try:
            fail(handled())
        except Exception:
            with pytest.raises(OutcomeUnknown) as caught:
                send(script.url, json={})
    assert caught.value.may_have_happened
    assert len(script.seen) > 1


def test_what_stands_behind_an_error_ends_where_the_operation_began() -> None:
    """But for what is named as its cause, and for an error that is raised twice."""
    earlier, error = ssl.SSLCertVerificationError(), OSError()
    error.__context__ = LookupError()
    error.__context__.__context__ = earlier
    assert caused_by(error, ssl.SSLCertVerificationError)
    assert not caused_by(error, ssl.SSLCertVerificationError, handled=earlier)
    assert caused_by(earlier, ssl.SSLCertVerificationError, handled=earlier)
    error.__cause__ = earlier
    assert caused_by(error, ssl.SSLCertVerificationError, handled=earlier)


@hooked
def test_a_bug_in_a_hook_is_no_failure(hooked: Any, serve: Serve) -> None:
    """The payment was made by then."""

    def bug(response: Any, *args: Any, **kwargs: Any) -> None:
        response.close()
        raise LookupError

    script = serve(answer(201))
    with pytest.raises(OutcomeUnknown, match="LookupError") as caught:
        hooked(script.url, bug)
    assert caught.value.may_have_happened
    assert len(script.seen) == 1


# -- requests, as sites set it up


def test_a_session_that_retries_itself_leaves_a_doubt(serve: Serve, pauses: list[float]) -> None:
    """Its last error was no connection; what its first attempt did, only the server knows."""
    script = serve(drop)
    session = requests.Session()
    retry = Retry(2, allowed_methods=None, backoff_factor=0.01)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    server = "http://127.0.0.1:1/pay"  # nobody listens there

    with RetryingClient(session) as client:
        for url in (script.url, server):
            with pytest.raises(OutcomeUnknown) as caught:
                client.post(url)
            assert caught.value.may_have_happened
    with RetryingClient(requests.Session()) as client, pytest.raises(OutcomeUnknown) as caught:
        client.post(server)
    assert not caught.value.may_have_happened


def test_a_wrong_fingerprint_is_not_retried(self_signed: str, pauses: list[float]) -> None:
    """A pinned certificate is verified without the usual error of the ssl module."""

    class Pinned(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, assert_fingerprint="00" * 32)

    session = requests.Session()
    session.mount("https://", Pinned())
    with (
        RetryingClient(session) as client,
        pytest.raises(requests.exceptions.SSLError, match="Fingerprint"),
    ):
        client.post(self_signed, verify=False)
    assert pauses == []


def test_an_older_urllib3_reads_its_own_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.2 there was no ``read1()``. The deadline holds all the same."""
    for cls in HTTPResponse.__mro__:
        if cls.__module__.startswith("urllib3") and "read1" in vars(cls):
            monkeypatch.delattr(cls, "read1")
    script = serve(answer(201, b'{"id": 1}'), trickle)
    with RetryingClient(requests.Session(), policy=POLICY) as client:
        assert client.post(script.url).json() == {"id": 1}
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            client.post(script.url)
    assert time.monotonic() - started < DEADLINE + SLACK


def test_no_query_stands_in_an_error(send: Send, pauses: list[float]) -> None:
    """It is logged and shown in the admin; requests quotes the address."""
    with pytest.raises(OutcomeUnknown) as caught:
        send("http://127.0.0.1:1/pay?token=s3cret", json={})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in caught.value.last_error
