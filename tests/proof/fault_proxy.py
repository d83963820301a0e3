"""A proxy before PostgreSQL that strikes at one chosen round trip, on either side of it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from tests.commit_proxy import PATIENCE, CommitProxy, _message

Side = Literal["before", "during", "after"]
Act = Literal["drop", "kill", "stall"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at which round trip; number 0 is the connection itself.

    ``before``: the server never hears of the statement. ``during``: it hears of it, and what
    it says is not waited for. ``after``: it has executed it, and nobody is told.
    """

    at: int
    side: Side
    act: Act

    def __str__(self) -> str:
        return f"{self.act} {self.side} round trip {self.at}"


class FaultProxy(CommitProxy):
    """Forwards everything; armed, it counts round trips and commits one :class:`Fault`."""

    def __init__(self, upstream: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self.trips: list[str] = []  # statements since it was armed
        self.released = threading.Event()
        self._victims: queue.Queue[int] = queue.Queue()
        self._fault: Fault | None = None
        super().__init__(upstream, "before")

    def arm(self, fault: Fault | None) -> None:
        """Count from one; None = count only."""
        with self._lock:
            self._fault = fault
            self.trips = []
            self.fired.clear()
            self.released.clear()
            self._victims = queue.Queue()

    def aim(self, pid: int) -> None:
        """Say whom ``kill`` kills. The blow waits for it."""
        self._victims.put(pid)

    def _start(self, client: socket.socket, server: socket.socket) -> None:
        if self._hits(0):
            self._strike()
            raise EOFError
        super()._start(client, server)

    def _exchange(self, client: socket.socket, server: socket.socket) -> bool:
        request, kind, statement = b"", b"", ""
        while kind not in {b"Q", b"S"}:
            kind, message = _message(client)
            if kind == b"Q":
                statement = message[5:-1].decode()
            elif kind == b"P":
                statement = message[5:].split(b"\0")[1].decode()
            request += message
        with self._lock:
            self.trips.append(statement)
            number = len(self.trips)
        hit = self._hits(number)
        if hit and self._side == "before" and not self._strike():
            return False
        server.sendall(request)
        if hit and self._side == "during":
            return self._strike()
        answer = b""
        while kind != b"Z":
            kind, message = _message(server)
            answer += message
        if hit and self._side == "after" and not self._strike():
            return False
        client.sendall(answer)
        return True

    @property
    def _side(self) -> Side:
        assert self._fault is not None
        return self._fault.side

    def _hits(self, number: int) -> bool:
        fault = self._fault
        return fault is not None and fault.at == number and not self.fired.is_set()

    def _strike(self) -> bool:
        """Whether the connection goes on."""
        assert self._fault is not None
        self.fired.set()
        if self._fault.act == "stall":
            self.released.wait(PATIENCE)
            return True
        if self._fault.act == "kill":
            with suppress(ProcessLookupError):
                os.kill(self._victims.get(timeout=PATIENCE), signal.SIGKILL)
        return False
