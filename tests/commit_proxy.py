"""A TCP proxy before PostgreSQL that loses the connection at a COMMIT, on whichever side of it.

It understands as much of the protocol as it needs to see where a statement ends: start-up,
authentication, simple and extended queries; neither COPY nor pipelines.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import pytest
from django.db import connection, connections

PATIENCE = 20  # seconds; whatever takes as long has failed
WITHOUT_ENCRYPTION = {80877103, 80877104}  # SSLRequest, GSSENCRequest: answered with N
ASKS_THE_CLIENT = {3, 5, 10, 11}  # authentication messages that the client has to answer

Side = Literal["before", "after"]


class CommitProxy:
    """Forwards to ``upstream`` and drops the first connection that commits.

    ``before``: the server never hears of the COMMIT. ``after``: the server has committed, the
    client never hears of it.
    """

    def __init__(self, upstream: dict[str, Any], side: Side) -> None:
        self.side = side
        self.fired = threading.Event()
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # start-up: many small parts
        with client, self._connect() as server, suppress(EOFError, OSError):
            try:
                self._start(client, server)
                while self._exchange(client, server):
                    pass
            finally:  # a forked child may hold copies of these sockets: closing is not enough
                for end in (client, server):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        host, port = self._upstream["HOST"], int(self._upstream["PORT"] or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port), PATIENCE)
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _start(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _exactly(client, 8)
            length, code = struct.unpack("!II", head)
            if code not in WITHOUT_ENCRYPTION:
                break
            client.sendall(b"N")
        server.sendall(head + _exactly(client, length - 8))
        kind = b""
        while kind != b"Z":  # ready for queries
            kind, message = _message(server)
            client.sendall(message)
            if kind == b"R" and struct.unpack("!I", message[5:9])[0] in ASKS_THE_CLIENT:
                server.sendall(_message(client)[1])

    def _exchange(self, client: socket.socket, server: socket.socket) -> bool:
        """One statement and its answer; False = the connection is to be dropped."""
        request, kind = b"", b""
        while kind not in {b"Q", b"S"}:  # a simple query, or the Sync after an extended one
            kind, message = _message(client)
            request += message
        hit = kind == b"Q" and message[5:].startswith(b"COMMIT") and not self.fired.is_set()
        if hit:
            self.fired.set()
            if self.side == "before":
                return False
        server.sendall(request)
        answer = b""
        while kind != b"Z":
            kind, message = _message(server)
            answer += message
        if hit:
            return False
        client.sendall(answer)
        return True


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = source.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """(type, the whole message)."""
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


@contextmanager
def losing_the_commit(side: Side) -> Iterator[CommitProxy]:
    """New connections go through a proxy that loses the first COMMIT it sees."""
    entry = connections.settings["default"]
    connection.close()
    proxy = CommitProxy(dict(entry), side)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(entry, "HOST", "127.0.0.1")
            patch.setitem(entry, "PORT", proxy.port)
            yield proxy
    finally:
        connection.close()
        proxy.close()
