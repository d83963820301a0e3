"""Interleaved rounds of every variant, in one process; ratios of one run can be compared.

The clock covers the call of the view and nothing around it: no middleware, no routing, no
building of requests. Absolute times belong to the machine, ratios to the code.
"""

from __future__ import annotations

import cProfile
import io
import logging
import pstats
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from django.contrib.auth import get_user_model
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token

from benchmarks import views
from benchmarks.models import Account
from benchmarks.report import say
from django_idempotency.models import IdempotencyKey
from django_idempotency.rows import EVENTS_PER_KIND

ACCOUNTS = 100
WAL_BATCH = 2000  # requests between two looks at the log; fewer meet a wave of page splits, or not
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")

View = Callable[[Any], Any]


@dataclass(slots=True)
class Variant:
    """One way to make a payment, and what it took."""

    name: str
    view: View
    against: str  # the variant that its ratios are taken to
    keyed: bool = False
    replays: bool = False  # sends the key that the variant before it has just used
    wall: list[float] = field(default_factory=list)  # µs a request
    cpu: list[float] = field(default_factory=list)  # µs a request, this process only
    statements: int = 0
    control: int = 0  # BEGIN, COMMIT and savepoints
    wal: float = 0.0  # bytes a request


def usual() -> list[Variant]:
    """Without a key, first and replayed; a replay follows the first execution of its key."""
    drf, protected_drf = views.BareAPIView.as_view(), views.ProtectedAPIView.as_view()
    plain, wrapped = views.protected, views.protected_with_savepoint
    alone, guarded = views.statements_alone, whole(views.PROTECTED)
    return [
        Variant("view, bare", views.bare, "view, bare"),
        Variant("view, first", plain, "view, bare", keyed=True),
        Variant("view, replay", plain, "view, bare", keyed=True, replays=True),
        Variant("statements alone, first", alone, "view, bare", keyed=True),
        Variant("statements alone, replay", alone, "view, bare", keyed=True, replays=True),
        Variant("view with atomic(), first", wrapped, "view, bare", keyed=True),
        Variant("APIView, bare", drf, "APIView, bare"),
        Variant("APIView, first", protected_drf, "APIView, bare", keyed=True),
        Variant("APIView, replay", protected_drf, "APIView, bare", keyed=True, replays=True),
        Variant("whole request, bare", whole(views.BARE), "whole request, bare"),
        Variant("whole request, first", guarded, "whole request, bare", keyed=True),
        Variant("whole request, replay", guarded, "whole request, bare", keyed=True, replays=True),
    ]


def whole(path: str) -> View:
    """A request as a server hands it over: through middleware and routing, to the response."""
    handler, sent = WSGIHandler(), {"PATH_INFO": f"/{path}", "HTTP_HOST": "localhost"}

    def view(request: Any) -> Any:
        return handler({**request.environ, **sent}, lambda *args: None)

    return view


class Bench:
    """The variants, and the requests that they get."""

    def __init__(self, variants: Iterable[Variant]) -> None:
        logging.getLogger("django_idempotency").setLevel(logging.WARNING)
        Account.objects.bulk_create([Account() for _ in range(ACCOUNTS)])
        self.accounts = list(Account.objects.values_list("pk", flat=True))
        self.user = get_user_model().objects.create_user("benchmark")
        self.token = Token.objects.create(user=self.user).key
        self.factory = RequestFactory()
        self.made = 0
        self.last: tuple[str, str] = ("", "")  # key and body of the latest first execution
        self.variants = list(variants)
        self.by_name = {variant.name: variant for variant in self.variants}

    def request(self, variant: Variant) -> Any:
        self.made += 1
        account = self.accounts[self.made % ACCOUNTS]
        body = f'{{"account": {account}, "amount": {self.made}, "currency": "EUR", '
        body += f'"reference": "invoice {self.made}"}}'
        key = str(uuid.uuid4())
        if variant.replays:
            key, body = self.last
        elif variant.keyed:
            self.last = key, body
        headers = {"Authorization": f"Token {self.token}", "User-Agent": "benchmark/1.0"}
        if variant.keyed:
            headers["Idempotency-Key"] = key
        request = self.factory.post(
            "/payments/", body, content_type="application/json", headers=headers
        )
        request.user = self.user  # as the session's middleware leaves it
        return request

    def send(self, variant: Variant) -> tuple[float, float]:
        """One request: wall and CPU time in µs."""
        request = self.request(variant)
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        response = variant.view(request)
        if hasattr(response, "render"):
            response.render()  # as the handler does; a rendered one stays as it is
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        replayed = "Idempotent-Replayed" in response
        if response.status_code != 201 or replayed is not variant.replays:
            msg = f"{variant.name} answered {response.status_code}: {response.content!r}"
            raise RuntimeError(msg)
        return wall / 1000, cpu / 1000

    # -- measurements, each apart

    def time(self, *, rounds: int, warmup: int) -> None:
        for number in range(-warmup, rounds):
            for variant in self.variants:
                wall, cpu = self.send(variant)
                if number >= 0:
                    variant.wall.append(wall)
                    variant.cpu.append(cpu)

    def count_statements(self) -> None:
        for variant in self.variants:
            with CaptureQueriesContext(connection) as captured:
                self.send(variant)
            texts = [query["sql"] for query in captured.captured_queries]
            variant.control = sum(text.startswith(CONTROL) for text in texts)
            variant.statements = len(texts) - variant.control

    def weigh_log(self) -> None:
        """Bytes of write-ahead log; without the page images that follow a checkpoint."""
        for variant in self.variants:
            if variant.replays:
                continue
            variant.wal = self._written(variant, WAL_BATCH)
            following = self.variants.index(variant) + 1
            if following < len(self.variants) and self.variants[following].replays:
                replay = self.variants[following]  # of one key, as long as each is an event
                replay.wal = self._written(replay, EVENTS_PER_KIND)

    def _written(self, variant: Variant, times: int) -> float:
        before = _ask("SELECT pg_current_wal_insert_lsn()")
        for _ in range(times):
            self.send(variant)
        return int(_ask("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before)) / times


def _ask(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def compare(*, rounds: int, warmup: int) -> None:
    """Measure everything and print it."""
    bench = Bench(usual())
    bench.count_statements()
    bench.time(rounds=rounds, warmup=warmup)
    bench.weigh_log()
    say(_header(rounds), "", *_table(bench), "", *_storage(), "", *_budgets(bench))


def profile(name: str, *, requests: int) -> None:
    """Print where the time of one variant goes; the profiler's own share included."""
    bench = Bench(usual())
    variant = bench.by_name[name]
    for warm in bench.variants * 20:
        bench.send(warm)
    prepared = [bench.request(variant) for _ in range(requests)]
    profiler = cProfile.Profile()
    profiler.enable()
    for request in prepared:
        variant.view(request)
    profiler.disable()
    say(f"{requests} x {name}, by own time", _functions(profiler, "tottime", 25))
    say("The package's own functions, by time including what they call")
    say(_functions(profiler, "cumulative", "django_idempotency", 40))


def _functions(profiler: cProfile.Profile, order: str, *restrictions: str | int) -> str:
    text = io.StringIO()
    stats = pstats.Stats(profiler, stream=text).sort_stats(order)
    stats.print_stats(*restrictions)
    return text.getvalue()


# -- the report


def _header(rounds: int) -> str:
    version, fsync = _ask("SHOW server_version"), _ask("SHOW fsync")
    return f"PostgreSQL {version}, fsync {fsync}, {rounds} interleaved rounds"


def _table(bench: Bench) -> Iterator[str]:
    yield (f"{'':26}{'wall µs':>9}{'x':>7}{'CPU µs':>9}{'x':>7}{'SQL':>5}{'BEGIN…':>8}{'WAL B':>8}")
    for variant in bench.variants:
        base = bench.by_name[variant.against]
        wall, cpu = median(variant.wall), median(variant.cpu)
        yield (
            f"{variant.name:26}{wall:9.0f}{wall / median(base.wall):7.2f}"
            f"{cpu:9.0f}{cpu / median(base.cpu):7.2f}"
            f"{variant.statements:5}{variant.control:8}{variant.wal:8.0f}"
        )


def _storage() -> Iterator[str]:
    keys = IdempotencyKey.objects.count()
    table = connection.ops.quote_name(IdempotencyKey._meta.db_table)
    index = _ask(
        "SELECT pg_relation_size(indexrelid) FROM pg_index "
        "WHERE indrelid = %s::regclass AND indisprimary",
        table,
    )
    heap = _ask("SELECT pg_relation_size(%s::regclass)", table)
    whole = _ask("SELECT pg_total_relation_size(%s::regclass)", table)
    yield (
        f"{keys} keys: {index / keys:.0f} B of primary-key index, {heap / keys:.0f} B of table, "
        f"{whole / keys:.0f} B with all indexes and TOAST, a key"
    )


def _budgets(bench: Bench) -> Iterator[str]:
    bare, first, replay = (bench.by_name[f"view, {it}"] for it in ("bare", "first", "replay"))
    drf, drf_first, drf_replay = (
        bench.by_name[f"APIView, {it}"] for it in ("bare", "first", "replay")
    )
    six, six_first, six_replay = (
        bench.by_name[f"whole request, {it}"] for it in ("bare", "first", "replay")
    )
    rows = [
        ("first execution, wall x bare", _ratio(first.wall, bare.wall), 1.5),
        ("first execution, CPU x bare", _ratio(first.cpu, bare.cpu), 1.45),
        ("first execution, WAL above bare", first.wal - bare.wal, 1500),
        ("first execution, own statements", first.statements - bare.statements, 3),
        ("APIView first, own statements", drf_first.statements - drf.statements, 3),
        ("replay, wall x bare", _ratio(replay.wall, bare.wall), 1 / 3),
        ("replay, statements", replay.statements, 2),
        ("APIView replay, wall x bare", _ratio(drf_replay.wall, drf.wall), 0.35),
        ("whole request first, wall x bare", _ratio(six_first.wall, six.wall), 1.15),
        ("whole request replay, wall x bare", _ratio(six_replay.wall, six.wall), 0.35),
    ]
    for name, measured, budget in rows:
        verdict = "met" if measured <= budget else "MISSED"
        yield f"{name:34}{measured:9.2f}   at most {budget:7.2f}   {verdict}"


def _ratio(one: list[float], other: list[float]) -> float:
    return median(one) / median(other)
