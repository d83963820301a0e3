"""Hostile requests, made by chance from a seed: keys, bodies, framing, request lines."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

WAYS = ("/mixin/", "/function/", "/plain/", "/async/", "/form/")
FORM = b"application/x-www-form-urlencoded"


@dataclass
class Draft:
    """A well-formed request for one order, which a family then spoils."""

    chance: random.Random
    key: bytes
    sku: bytes
    way: bytes
    method: bytes = b"POST"
    version: bytes = b"HTTP/1.1"
    kind: bytes = b"application/json"
    headers: list[bytes] = field(default_factory=list)  # more of them, as lines
    keys: list[bytes] | None = None  # lines in place of the one with the key
    body: bytes = b""
    length: list[bytes] | None = None  # lines in place of the one with the length
    target: bytes = b""
    eol: bytes = b"\r\n"
    again: int = 1  # how often it is sent, on one connection
    reset: bool = False  # the client goes away without waiting for an answer
    same_key: bool = True  # where a server finds a key in it, it is ``key``

    def __post_init__(self) -> None:
        self.body = b'{"sku":"%b","qty":1}' % self.sku
        self.target = self.way

    def lines(self) -> list[bytes]:
        keys = self.keys if self.keys is not None else [b"Idempotency-Key: " + self.key]
        length = [b"Content-Length: %d" % len(self.body)] if self.length is None else self.length
        kind = [b"Content-Type: " + self.kind] if self.kind else []
        host = [b"Host: 127.0.0.1"]
        start = b" ".join((self.method, self.target, self.version))
        return [start, *host, *kind, *keys, *self.headers, *length]

    def raw(self) -> bytes:
        return (self.eol.join([*self.lines(), b"", b""]) + self.body) * self.again


@dataclass(frozen=True, slots=True)
class Shot:
    """What goes over the wire, and what it was made from."""

    family: str
    way: str
    key: str
    sku: str
    raw: bytes
    reset: bool
    same_key: bool


Family = Callable[[Draft], bytes | None]
FAMILIES: dict[str, Family] = {}


def family(make: Family) -> Family:
    """Add a family: spoils a draft in place, or returns the bytes to send instead."""
    FAMILIES[make.__name__] = make
    return make


def shots(seed: int, ways: tuple[str, ...] = WAYS) -> Iterator[Shot]:
    """Endless: all families in turn, each before another view than the last time."""
    chance, way = random.Random(seed), cycle(ways)
    while True:
        names = list(FAMILIES)
        chance.shuffle(names)
        for name in names:
            yield shot(name, next(way), chance)
        next(way)


def shot(name: str, way: str, chance: random.Random) -> Shot:
    key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    sku = f"fuzz-{chance.getrandbits(64):016x}x"
    draft = Draft(chance, key.encode(), sku.encode(), way.encode())
    raw = FAMILIES[name](draft)
    raw = draft.raw() if raw is None else raw
    return Shot(name, way, key, sku, raw, draft.reset, draft.same_key)


def noise(chance: random.Random, longest: int = 40) -> bytes:
    return chance.randbytes(chance.randrange(1, longest))
