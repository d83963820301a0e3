"""Where hostile requests are shot, and who judges: a served site, and the tables behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from django.db import connection

from django_idempotency.models import IdempotencyKey
from tests.orders.models import Order
from tests.proof.fuzz_shots import FAMILIES, Shot
from tests.proof.fuzz_wire import Answer, Heard, order, shoot
from tests.proof.server import PATIENCE, ROOT, Server
from tests.shop_server import database_url

GUNICORN = ("gunicorn", "--workers", "1", "--threads", "4", "--preload", "--no-control-socket")
# Everything that gunicorn can be told to let pass, so that it reaches the framework and us.
LAX = (
    *("--permit-obsolete-folding", "--strip-header-spaces", "--header-map", "dangerous"),
    *("--permit-unconventional-http-method", "--permit-unconventional-http-version"),
    *("--casefold-http-method", "--limit-request-field_size", "65000"),
)
SERVERS: dict[str, tuple[str, ...]] = {
    "strict": (*GUNICORN, "django.core.wsgi:get_wsgi_application()"),
    "lax": (*GUNICORN, *LAX, "django.core.wsgi:get_wsgi_application()"),
    "asgi": (
        *("uvicorn", "--timeout-keep-alive", "0", "--factory"),
        "django.core.asgi:get_asgi_application",
    ),
}
SILENCE = {"asgi": 0.3}  # seconds; asyncio takes the end of what is sent for the end of the client
ANSWERED = {*range(100, 500), 501, 505}  # "not implemented", "version not supported": of framing


@dataclass
class Site:
    """A served site."""

    server: Server
    log: IO[str]
    silence: float
    crew: list[int] = field(default_factory=list)  # who served when it began

    @property
    def port(self) -> int:
        return self.server.port

    def at_work(self) -> list[int]:
        """gunicorn's workers, or the one process there is, if it lives."""
        return self.server.workers() or [pid for pid in (self.server.pid,) if lives(pid)]

    def recrew(self) -> None:
        """Wait until the place of a worker that died is taken."""
        deadline = time.monotonic() + PATIENCE
        while len(self.server.workers()) < len(self.crew):
            assert time.monotonic() < deadline, "no worker came back"
            time.sleep(0.05)
        self.crew = self.at_work()

    def shoot(self, raw: bytes, *, reset: bool = False) -> Heard:
        return shoot(self.port, raw, reset=reset, silence=self.silence)

    def tracebacks(self) -> str:
        self.log.seek(0)
        return self.log.read()[-3_000:]


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@contextmanager
def served(kind: str, **environment: str) -> Iterator[Site]:
    """Serve ``fuzz_urls`` on the database of the tests."""
    program, *options = SERVERS[kind]
    with (
        socket.create_server(("127.0.0.1", 0), backlog=256) as listener,
        tempfile.TemporaryFile("w+") as log,
    ):
        number = listener.fileno()
        bind = ["--bind", f"fd://{number}"] if program == "gunicorn" else ["--fd", str(number)]
        quiet = ["--log-level", "critical"]
        process = subprocess.Popen(
            [sys.executable, "-m", program, *bind, *quiet, *options],
            env={**os.environ, **_settings(), **environment},
            cwd=ROOT,
            pass_fds=[number],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        site = Site(Server(listener.getsockname()[1], process.pid), log, SILENCE.get(kind, 0))
        try:
            _wait(site, process)
            yield site
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _settings() -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "tests.proof.fuzz_settings",
        "DATABASE_URL": database_url(),
        "DEBUG": "0",
        "SECRET_KEY": "a-server-for-tests-has-no-secrets",
        "ALLOWED_HOSTS": "127.0.0.1",
        "PYTHONWARNINGS": "ignore",
    }


def _wait(site: Site, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while site.shoot(b"GET /none/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").statuses != [404]:
        assert process.poll() is None, site.tracebacks()
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    site.crew = site.at_work()


@dataclass
class Report:
    """What became of a run."""

    seed: int
    shots: int = 0
    statuses: Counter[int] = field(default_factory=Counter)  # 0 = hung up
    executed: Counter[str] = field(default_factory=Counter)  # families that placed their order
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = " ".join(f"{status}:{n}" for status, n in sorted(self.statuses.items()))
        return (
            f"seed {self.seed}, {self.shots} shots, answers {statuses}, "
            f"{self.executed.total()} executed, {len(self.violations)} violations"
        )


def fire(site: Site, shots: Iterable[Shot], report: Report, *, seconds: float) -> Report:
    """Shoot, ask for the same order properly, and look at the rows.

    Until time is up and each family has had its turn.
    """
    until = time.monotonic() + seconds
    for shot in shots:
        what = list(judged(site, shot, report))
        report.violations += [
            f"{shot.family} at {shot.way}: {violation}\n{shot.raw[:600]!r}" for violation in what
        ]
        report.shots += 1
        if time.monotonic() > until and report.shots >= len(FAMILIES):
            break
    if site.at_work() != site.crew:
        report.violations.append("a worker died")
    if left := leftovers():
        report.violations.append(f"{left} sessions stand in a transaction")
    return report


def leftovers() -> int:
    """Sessions that stand in a transaction after everything has ended; PostgreSQL tells."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state LIKE 'idle in trans%%' AND datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def judged(site: Site, shot: Shot, report: Report) -> Iterator[str]:
    """What was wrong about one shot."""
    heard = site.shoot(shot.raw, reset=shot.reset)
    report.statuses.update(heard.statuses or [0])
    yield from (f"answered {status}" for status in heard.statuses if status not in ANSWERED)
    if heard.hung:
        yield "neither answered nor hung up"
    if heard.garbled:
        yield f"answered {heard.garbled!r}"
    first, second = (order(site.port, shot.way, shot.key, shot.sku) for _ in range(2))
    orders = Order.objects.filter(sku=shot.sku).count()
    keys = [key for key in IdempotencyKey.objects.completed() if shot.sku in body_of(key)]
    report.executed[shot.family] += orders > 1 or not (first.status == 201 and not first.replayed)
    yield from _unusable(first, second, taken=bool(orders))
    if orders != len(keys):
        yield f"{orders} orders, {len(keys)} keys that stand for them"
    if orders > 1 and shot.same_key:
        yield f"{orders} orders of one key"
    IdempotencyKey.objects.all().delete()


def body_of(key: IdempotencyKey) -> str:
    return bytes(key.response_body or b"").decode()


def _unusable(first: Answer, second: Answer, *, taken: bool) -> Iterator[str]:
    """The key works: it gives the order, or belongs to the hostile request, which was one."""
    if first.status == 422 and taken:
        if second.status != 422:
            yield f"the key answered 422, and then {second.status}"
    elif first.status != 201:
        yield f"the key is spent: {first.status}"
    elif (second.status, second.replayed, second.body) != (201, True, first.body):
        yield f"no replay: {second.status}"
