"""Whether a worker grows: the memory of one process over 100,000 requests.

    python -m benchmarks.memory
    python -m benchmarks.memory --requests 20_000 --trace    # which lines keep what

The requests go through Django's WSGI handler, middleware, signals and all: first executions,
replays, conflicting reuses and keys that are too long, to a plain view and to an ``APIView``.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import django
from django.core.management import call_command

from benchmarks.report import say
from tests.pg_launcher import Cluster

WARM = 10_000  # requests until caches, pools and the free lists have their size
ALLOWED = 0.01  # growth after that, of the blocks that Python has allocated
EVERY = 10_000  # requests between two lines
ACCOUNTS = 100

# What is sent in turns: (what, status that is expected).
TURNS = (
    *(("first", 201), ("replay", 201), ("first", 201), ("conflict", 422), ("first", 201)),
    *(("replay", 201), ("refused", 400), ("first", 201), ("replay", 201), ("conflict", 422)),
)


class Worker:
    """Sends requests to Django as a server would, and drops the answers."""

    def __init__(self) -> None:
        from django.contrib.auth import get_user_model
        from django.core.wsgi import get_wsgi_application
        from rest_framework.authtoken.models import Token

        from benchmarks.models import Account

        Account.objects.bulk_create([Account() for _ in range(ACCOUNTS)])
        self.accounts = list(Account.objects.values_list("pk", flat=True))
        self.token = Token.objects.create(user=get_user_model().objects.create_user("worker")).key
        self.application: Callable[..., Any] = get_wsgi_application()
        self.sent = 0
        self.keys: dict[str, str] = {}  # the latest, by path
        self.status = ""

    def send(self) -> None:
        """The next request of the turns, to the one view and to the other."""
        what, expected = TURNS[self.sent // 2 % len(TURNS)]
        self.sent += 1
        path = ("/payments/", "/api/payments/")[self.sent % 2]
        if what == "first":
            self.keys[path] = str(uuid.uuid4())
        answer = self.application(self._environ(path, what), self._start)
        for _chunk in answer:
            pass
        answer.close()
        if self.status != f"{expected}":
            msg = f"{what} at {path} was answered {self.status}, not {expected}"
            raise RuntimeError(msg)

    def _environ(self, path: str, what: str) -> dict[str, Any]:
        amount = 2 if what == "conflict" else 1
        body = b'{"account": %d, "amount": %d, "currency": "EUR", "reference": "invoice 4711"}'
        body %= (self.accounts[hash(self.keys[path]) % ACCOUNTS], amount)
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_HOST": "127.0.0.1",
            "HTTP_IDEMPOTENCY_KEY": "x" * 300 if what == "refused" else self.keys[path],
            "HTTP_AUTHORIZATION": f"Token {self.token}",
            "HTTP_USER_AGENT": "shop-app/2.10 (Linux)",
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        return environ

    def _start(self, status: str, headers: Any, *rest: Any) -> None:
        self.status = status.partition(" ")[0]


def resident() -> float:
    """MB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def blocks() -> int:
    """What Python has allocated and not freed; what waits for the collector is freed first."""
    gc.collect()
    return sys.getallocatedblocks()


def run(requests: int) -> tuple[int, int]:
    """Print a line now and then; (blocks when warm, blocks at the end)."""
    worker, warm = Worker(), 0
    say(f"{'requests':>10}{'resident MB':>14}{'blocks':>12}")
    for number in range(requests + 1):
        if number % EVERY == 0 or number == requests:
            count = blocks()
            say(f"{number:>10,}{resident():>14.1f}{count:>12,}")
            warm = count if number == WARM else warm
        worker.send()
    return warm, count


def traced(requests: int) -> Iterator[str]:
    """The lines that have kept most since the first half."""
    worker = Worker()
    tracemalloc.start(10)
    for _ in range(requests // 2):
        worker.send()
    gc.collect()
    before = tracemalloc.take_snapshot()
    for _ in range(requests // 2):
        worker.send()
    gc.collect()
    for found in tracemalloc.take_snapshot().compare_to(before, "lineno")[:15]:
        yield str(found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--trace", action="store_true", help="with tracemalloc, which is slow")
    options = parser.parse_args()
    with Cluster() as cluster:
        os.environ["DATABASE_URL"] = cluster.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["ALLOWED_HOSTS"] = "127.0.0.1"
        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        if options.trace:
            say(*traced(options.requests))
            return 0
        warm, end = run(options.requests)
    grown = end / warm - 1 if warm else 0.0
    verdict = "no growth" if grown <= ALLOWED else "IT GROWS"
    say(f"{verdict}: {grown:+.2%} blocks from request {WARM:,} to {options.requests:,}")
    return int(grown > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
