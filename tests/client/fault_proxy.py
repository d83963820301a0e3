"""A proxy that loses, delays, refuses and doubles requests, the same ones each time.

What it does to an attempt depends on a seed, the key and the number of the attempt, so that
threads cannot change it. After ``CALM`` attempts it lets a key alone, except for those that it
was told to stay dead for.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

CALM = 6  # attempts; from then on nothing happens to a key
LATE = 1.3  # seconds; longer than the clients of the tests wait

Fault = Literal[
    "pass", "drop before", "drop after", "refuse", "double", "delay", "late", "dead", "dead after"
]
FAULTS: dict[Fault, int] = {
    "pass": 44,
    "drop before": 12,  # the request never arrives
    "drop after": 14,  # it arrives, its answer does not
    "refuse": 10,  # 503 from something in between
    "double": 10,  # delivered twice, at the same time
    "delay": 7,
    "late": 3,  # delivered after the client has given up on it and tried again
}
REFUSAL = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"


@dataclass
class FaultProxy:
    upstream: str
    seed: int
    url: str = ""
    dead: dict[str, Fault] = field(default_factory=dict)  # key: what happens to every attempt
    attempts: Counter[str] = field(default_factory=Counter)  # by key
    done: Counter[Fault] = field(default_factory=Counter)
    _late: set[asyncio.Task[bytes]] = field(default_factory=set)
    _serving: set[asyncio.Task[None] | None] = field(default_factory=set)

    def fault(self, key: str) -> Fault:
        self.attempts[key] += 1
        number = self.attempts[key]
        if key in self.dead:
            return self.dead[key]
        if number > CALM:
            return "pass"
        rng = random.Random(f"{self.seed} {key} {number}")  # noqa: S311 - no secret
        return rng.choices(list(FAULTS), list(FAULTS.values()))[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio holds a reader weakly, and with it the tasks that wait for its server's answer:
        # without this they are collected as garbage when the answer takes long.
        self._serving.add(asyncio.current_task())
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while request := await _message(reader):
                    answer = await self._pass_on(request)
                    if answer is None:
                        break
                    writer.write(answer)
                    await writer.drain()
        finally:
            self._serving.discard(asyncio.current_task())
            writer.close()

    async def _pass_on(self, request: bytes) -> bytes | None:
        """The answer, or ``None`` to drop the connection."""
        key = re.search(rb"(?im)^idempotency-key: *(\S+)", request)
        fault = self.fault(key[1].decode()) if key else "pass"
        self.done[fault] += 1
        if fault in {"drop before", "dead"}:
            return None
        if fault == "refuse":
            return REFUSAL
        if fault == "late":
            task = asyncio.create_task(self._deliver_late(request))
            self._late.add(task)
            await asyncio.shield(task)
            return None
        if fault == "delay":
            await asyncio.sleep(0.05)
        copies = 2 if fault == "double" else 1
        answers = await asyncio.gather(*(self._deliver(request) for _ in range(copies)))
        return None if fault in {"drop after", "dead after"} else answers[0]

    async def _deliver_late(self, request: bytes) -> bytes:
        await asyncio.sleep(LATE)
        return await self._deliver(request)

    async def _deliver(self, request: bytes) -> bytes:
        parts = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            return await _message(reader)
        finally:
            writer.close()

    async def settle(self) -> None:
        """Until the last late delivery has arrived."""
        await asyncio.gather(*self._late, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One request or response, head and body; b"" at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


@contextmanager
def fault_proxy(upstream: str, *, seed: int) -> Iterator[FaultProxy]:
    """Run it in a thread; on leaving, all that it still holds back has been delivered."""
    proxy = FaultProxy(upstream, seed)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.settle(), loop).result(30)

        async def stop() -> None:
            server.close()
            ours = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            await asyncio.sleep(0.05)  # transports close in a later turn of the loop

        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
