"""Bytes to a server and back: what no client library would send, and whatever comes of it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field

PATIENCE = 10.0  # seconds without a byte, before a server counts as hung
USABLE_AGAIN = 5.0  # seconds for a key to be free of the request whose client has gone
MOST = 4_194_304  # bytes of an answer that are read
_HEAD = re.compile(rb"HTTP/\d\.\d ([1-5]\d\d)(?: [^\r\n]*)?\r\n(.*?\r\n)?\r\n", re.DOTALL)
_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding: *chunked\r$", re.IGNORECASE | re.MULTILINE)


@dataclass
class Heard:
    """The statuses on one connection, in their order; none = the server hung up."""

    statuses: list[int] = field(default_factory=list)
    hung: bool = False  # neither answered to the end nor hung up
    garbled: bytes = b""  # what is no response


def shoot(port: int, raw: bytes, *, reset: bool = False, silence: float = 0) -> Heard:
    """Send all of it, say that no more will come, and listen until the server has done.

    Servers that take the end of what is sent for the end of the client are told only after some
    seconds of ``silence``.
    """
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as line:
        with suppress(ConnectionError):
            line.sendall(raw)
            if reset:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return Heard()
        return _listen(line, silence)


def _listen(line: socket.socket, silence: float) -> Heard:
    answer, told = b"", False
    line.settimeout(silence or PATIENCE)
    try:
        while len(answer) < MOST:
            if not (silence or told):
                told = True
                line.shutdown(socket.SHUT_WR)
            try:
                chunk = line.recv(65_536)
            except TimeoutError:
                if told:
                    return heard(answer, hung=True)
                silence = 0
                line.settimeout(PATIENCE)
                continue
            if not chunk:
                break
            answer += chunk
    except ConnectionError:
        pass  # it hung up; what it said counts
    return heard(answer)


def heard(answer: bytes, *, hung: bool = False) -> Heard:
    """Take the responses apart."""
    statuses = []
    while answer:
        found = _HEAD.match(answer)
        if found is None:
            return Heard(statuses, hung, answer[:200])
        status, lines = int(found[1]), found[2] or b""
        statuses.append(status)
        answer = answer[found.end() :]
        if status == 204 or status < 200:
            continue
        length = _LENGTH.search(lines)
        if length is not None:
            answer = answer[int(length[1]) :]
        elif _CHUNKED.search(lines):
            answer = answer.partition(b"0\r\n\r\n")[2]
        else:
            break  # all there is belongs to it
    return Heard(statuses, hung)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    replayed: bool = False


def order(port: int, way: str, key: str, sku: str) -> Answer:
    """Place the order as a good client does; 409 = come back, within reason."""
    until = time.monotonic() + USABLE_AGAIN
    while (answer := post(port, way, key, sku)).status == 409 and time.monotonic() < until:
        time.sleep(0.02)
    return answer


def post(port: int, way: str, key: str, sku: str) -> Answer:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    sent = {"Content-Type": "application/json", "Idempotency-Key": key}
    try:
        client.request("POST", way, json.dumps({"sku": sku, "qty": 1}), sent)
        response = client.getresponse()
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return Answer(response.status, response.read(), replayed)
    except (OSError, http.client.HTTPException):
        return Answer(0)
    finally:
        client.close()
