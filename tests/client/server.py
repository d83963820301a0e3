"""A server that does what a script says and remembers every byte that it was sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")


@dataclass
class Script:
    """What the server answers, step by step; the last step is repeated."""

    url: str
    steps: list[Callable[[Any], None]]
    seen: list[Seen] = field(default_factory=list)


def answer(status: int, body: bytes = b"{}", **headers: str) -> Callable[[Any], None]:
    def step(handler: Any) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return step


def drop(handler: Any) -> None:
    """The request has arrived; the answer never does."""
    handler.close_connection = True
    handler.connection.close()


def cut_short(handler: Any) -> None:
    """The connection breaks in the middle of the answer."""
    handler.send_response(201)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")
    drop(handler)


def stall(handler: Any) -> None:
    """Longer than any test waits."""
    handler.server.released.wait(20)
    handler.close_connection = True


def trickle(handler: Any) -> None:
    """A byte now and then, so that no time-out between two bytes is ever reached."""
    handler.close_connection = True
    handler.send_response(201)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    try:
        while not handler.server.released.is_set():
            handler.wfile.write(b" ")
            time.sleep(0.02)
    except OSError:
        pass  # the client has hung up, as it should


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        script: Script = self.server.script  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        script.seen.append(Seen(self.requestline, headers, body))
        step = script.steps.pop(0) if len(script.steps) > 1 else script.steps[0]
        step(self)

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - http.server's names

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Half of what it serves here is meant to fail."""


@contextmanager
def scripted(*steps: Callable[[Any], None]) -> Iterator[Script]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.released = threading.Event()  # type: ignore[attr-defined]
        script = Script(f"http://127.0.0.1:{server.server_address[1]}/pay", list(steps))
        server.script = script  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield script
        finally:
            server.released.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join(5)
