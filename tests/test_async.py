"""Async views: one engine, one transaction, also when the client hangs up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connections
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency import idempotent
from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.sender import new_key

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

state: dict[str, Any] = {}


@csrf_exempt
@idempotent
async def patient(request: HttpRequest) -> JsonResponse:
    order = await Order.objects.acreate(sku="tea")
    state["wrote"].set()
    await state["go_on"].wait()
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
@idempotent
async def streaming(request: HttpRequest) -> StreamingHttpResponse:
    order = await Order.objects.acreate(sku="tea")

    async def parts() -> Any:
        yield b"order "
        yield str(order.pk).encode()

    return StreamingHttpResponse(parts(), status=201)


urlpatterns = [path("patient/", patient), path("streaming/", streaming)]


def communicator(url: str, key: str) -> ApplicationCommunicator:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": url,
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"content-type", b"application/json"),
            (b"idempotency-key", key.encode()),
        ],
    }
    return ApplicationCommunicator(get_asgi_application(), scope)


async def answered(request: ApplicationCommunicator) -> tuple[int, bytes, dict[bytes, bytes]]:
    await request.send_input({"type": "http.request", "body": json.dumps({}).encode()})
    start = await request.receive_output(10)
    body = b""
    while True:
        part = await request.receive_output(10)
        body += part.get("body", b"")
        if not part.get("more_body"):
            await request.wait(10)  # the application closes the response and its connection
            return start["status"], body, dict(start["headers"])


@pytest.fixture(autouse=True)
def _close_connections() -> Any:
    yield
    connections.close_all()


def test_a_client_that_hangs_up_leaves_nothing_behind() -> None:
    """X5: the task is cancelled in mid-view and counted, its writes go, the retry runs."""
    key = new_key()

    async def scenario() -> int:
        state.update(wrote=asyncio.Event(), go_on=asyncio.Event())
        first = communicator("/patient/", key)
        await first.send_input({"type": "http.request", "body": b"{}"})
        await asyncio.wait_for(state["wrote"].wait(), 10)
        await first.send_input({"type": "http.disconnect"})
        await first.wait(10)
        state["go_on"].set()
        status, _, _ = await answered(communicator("/patient/", key))
        return status

    assert asyncio.run(scenario()) == 201
    assert Order.objects.count() == 1
    record = IdempotencyKey.objects.get()
    assert (record.attempts, record.failure_count) == (2, 1)


def test_an_async_stream_is_buffered_and_replayed() -> None:
    """H9: what the generator yields is stored, and is not generated again."""
    key = new_key()

    async def scenario() -> list[Any]:
        return [await answered(communicator("/streaming/", key)) for _ in range(2)]

    first, retry = asyncio.run(scenario())

    assert first[:2] == retry[:2] == (201, f"order {Order.objects.get().pk}".encode())
    assert retry[2][b"Idempotent-Replayed"] == b"true"
