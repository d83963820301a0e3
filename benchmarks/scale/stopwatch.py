"""Times of one database: on the wall, and on the processor of the server's process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connections, transaction

from benchmarks import views
from benchmarks.scale.requests import Requests, key_of, send
from benchmarks.scale.shards import alias_of, on
from django_idempotency.models import IdempotencyKey
from django_idempotency.sql import statements_for

STATEMENTS = ("claim", "lock", "store")


class Stopwatch:
    """Microseconds by step, of the database with ``rows`` keys."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.alias = alias_of(rows)
        self.requests = Requests(rows)
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.server: dict[str, list[float]] = defaultdict(list)
        texts = statements_for(self.alias)
        self._names = {getattr(texts, name): name for name in STATEMENTS}
        self._last: tuple[str | None, float] = (None, 0.0)

    def clear(self) -> None:
        self.wall.clear()
        self.server.clear()

    def send(self) -> None:
        """Without protection, first, a retry of any loaded key, a look for any across scopes."""
        with on(self.alias):
            unprotected = self.requests.first()
            bare = transaction.atomic(using=self.alias)(views.unprotected)
            self._time("bare view", lambda: bare(unprotected))
            request = self.requests.first()
            with connections[self.alias].execute_wrapper(self._watch):
                self._time("first execution", lambda: send(request))
            retry = self.requests.loaded()
            self._time("replay", lambda: send(retry, replayed=True))
            found = IdempotencyKey.objects.for_key(self._key())
            self._time("search by key", found.get)

    def visit(self, name: str, client: Any, url: str, *, search: bool) -> None:
        """A page of the admin, searched for any of the younger loaded keys."""
        key = self._key()
        with on(self.alias):
            response = self._time(name, lambda: client.get(f"{url}?q={key}" if search else url))
        if response.status_code != 200 or (search and key not in response.content.decode()):
            msg = f"{url} answered {response.status_code}, or without {key}"
            raise RuntimeError(msg)

    def _key(self) -> str:
        return key_of(self.requests.random.randint(self.rows // 2, self.rows))

    def _time(self, name: str, act: Callable[[], Any]) -> Any:
        began, before = time.perf_counter_ns(), used(self.alias)
        result = act()
        self.wall[name].append((time.perf_counter_ns() - began) / 1000)
        self.server[name].append(used(self.alias) - before)
        return result

    def _watch(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        """Time a statement of ours.

        What a statement has cost the server is read when the next one begins: when its answer
        arrives, the process may still be at work on its end.
        """
        now, (name, before) = used(self.alias), self._last
        if name is not None:
            self.server[name].append(now - before)
        name = self._names.get(sql)
        self._last = (name if name in ("claim", "lock") else None, now)
        began = time.perf_counter_ns()
        try:
            return execute(sql, params, many, context)
        finally:
            if name is not None:
                self.wall[name].append((time.perf_counter_ns() - began) / 1000)


def used(alias: str) -> float:
    """µs that the server's process for this thread's connection has spent on a processor."""
    connection = connections[alias]
    connection.ensure_connection()
    process = connection.connection.info.backend_pid
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1000
