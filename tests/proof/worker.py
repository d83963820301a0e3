"""A web worker: a forked process that answers requests and reports through a pipe.

Killed, it reports nothing more; the parent hears the end of the pipe.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

from tests.proof import views

PATIENCE = 20  # seconds

Tell = Callable[..., None]


class Worker:
    """Runs ``act(tell)`` in a child; what it tells, one dict a call, is the result."""

    def __init__(self, act: Callable[[Tell], Any]) -> None:
        connections.close_all()
        self.killed = False
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            self.pid = os.fork()
        if self.pid == 0:
            _run(act, writing)
        os.close(writing)
        self._reading = reading

    def result(self) -> list[dict[str, Any]]:
        """Wait for the end, whatever kind of end it is."""
        # Longer than the proxy stalls a rival, whom this one may wait for.
        said, deadline = b"", time.monotonic() + 2 * PATIENCE
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._reading], [], [], left)[0]:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(said)
            chunk = os.read(self._reading, 65536)
            if not chunk:
                break
            said += chunk
        os.close(self._reading)
        self.killed = os.WIFSIGNALED(os.waitpid(self.pid, 0)[1])
        return [json.loads(line) for line in said.split(b"\n")[:-1]]


def _run(act: Callable[[Tell], Any], writing: int) -> None:
    """The child's whole life."""
    gc.disable()  # a collection would copy the parent's memory, page by page
    logging.disable(logging.CRITICAL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)

    def tell(**news: Any) -> None:
        os.write(writing, json.dumps(news).encode() + b"\n")

    views.NOTIFY[:] = [lambda pk: tell(committed=pk)]
    try:
        act(tell)
    except BaseException as error:  # the parent must hear of it
        tell(error=repr(error))
    finally:
        sys.stderr.flush()
        os._exit(0)


class _Loop:
    """An event loop whose requests share one thread, and so the connection that it keeps."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._context = copy_context()
        self._thread = ThreadSensitiveContext()
        self.run(self._thread.__aenter__())

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self._runner.run(work, context=self._context)

    def close(self) -> None:
        self.run(sync_to_async(connections.close_all)())
        self.run(self._thread.__aexit__(None, None, None))
        self._runner.close()


_wsgi = cache(WSGIHandler)
_asgi = cache(ASGIHandler)
_loop = cache(_Loop)


def warm_up(path: str, body: dict[str, Any], key: str) -> None:
    """Request once, in vain, in this process: what it imports, no worker has to import again."""
    post(path, body, key, "fail")
    _loop().close()
    _loop.cache_clear()  # a forked worker begins its own


def post(path: str, body: dict[str, Any], key: str, provoke: str = "") -> dict[str, Any]:
    """One request as a server makes it, connections opened and closed as Django does."""
    data = json.dumps(body).encode()
    send = _send_async if path.endswith("/async/") else _send
    status, headers, content = send(path, data, key, provoke)
    names = {name.lower(): value for name, value in headers}
    return {
        "status": status,
        "body": content.decode(),
        "replayed": names.get("idempotent-replayed") == "true",
        "retry_after": names.get("retry-after"),
    }


def _send(path: str, data: bytes, key: str, provoke: str) -> Any:
    head: list[Any] = []
    environ = {
        **{"REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""},
        **{"SERVER_NAME": "testserver", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"},
        **{"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(data))},
        **{"HTTP_IDEMPOTENCY_KEY": key, "HTTP_X_PROVOKE": provoke, "REMOTE_ADDR": "127.0.0.1"},
        **{"wsgi.input": io.BytesIO(data), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"},
    }
    response = _wsgi()(environ, lambda status, headers: head.extend((status, headers)))
    content = b"".join(response)
    response.close()  # request_finished: what Django does to its connections between requests
    return int(head[0].split()[0]), head[1], content


def _send_async(path: str, data: bytes, key: str, provoke: str) -> Any:
    sent: list[Any] = []
    headers = {
        b"host": b"testserver",
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(data),
        b"idempotency-key": key.encode(),
        b"x-provoke": provoke.encode(),
    }
    scope = {
        **{"type": "http", "method": "POST", "path": path, "query_string": b""},
        **{"headers": list(headers.items())},
    }

    async def answer() -> None:
        body = [{"type": "http.request", "body": data}]

        async def receive() -> Any:
            if body:
                return body.pop()
            return await asyncio.Event().wait()  # the client stays

        async def send(message: Any) -> None:
            sent.append(message)

        await _asgi()(scope, receive, send)

    _loop().run(answer())
    content = b"".join(message.get("body", b"") for message in sent[1:])
    pairs = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return sent[0]["status"], pairs, content
