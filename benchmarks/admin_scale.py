"""How quick the admin is on a large table: one million keys and two million events, or more.

Starts a private PostgreSQL, fills it, asks for each page with Django's test client, signed in,
and prints the milliseconds of the whole request and the plans of the slowest page.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import django
from django.core.management import call_command

from benchmarks.digest import ID, RAW
from benchmarks.report import say
from tests.pg_launcher import Cluster

GOAL = 300  # ms
ROUNDS = 5
# A million rows do not fit into the 128 MB that PostgreSQL takes unless told otherwise.
SETTINGS = {"shared_buffers": "512MB", "work_mem": "16MB", "max_wal_size": "4GB"}

# Keys spread over some days, the newest just now; 1 in 200 is unfinished, 1 in 20 a 4xx. The id
# is made as key_id() makes it, so that search by key finds them.
KEYS = """
INSERT INTO django_idempotency_idempotencykey (
  id, scope, key, fingerprint, method, path, route, request_record, remote_addr, user_agent,
  request_id, seed, attempts, created_at, expires_at, completed_at, duration_ms,
  response_status, response_headers, response_body)
SELECT
  {id},
  scope, key, repeat('ab', 32), 'POST', path, route,
  '{"fields":{"@method":"0a1b2c3d4e5f","account":"0a1b2c3d4e5f","amount":"0a1b2c3d4e5f"}}',
  '192.0.2.10', 'shop-app/2.10 (Linux)', 'req-' || n, gen_random_uuid(), 1,
  at, at + interval '24 hours',
  CASE WHEN done THEN at + interval '40 milliseconds' END, CASE WHEN done THEN 40 END,
  CASE WHEN done THEN CASE WHEN n % 20 = 0 THEN 402 ELSE 201 END END,
  CASE WHEN done THEN '[["Content-Type","application/json"]]' END,
  CASE WHEN done THEN convert_to('{"id": ' || n || ', "amount": 1250, "note": "'
    || repeat('x', 200) || '"}', 'UTF8') END
FROM (SELECT n, n % 200 <> 7 AS done,
  now() - (interval '{days} days' * ({keys} - n) / {keys}) AS at,
  'user:' || (power(n % 997, 2)::int % 5000) AS scope,
  'scale-' || n || '-' || md5(n::text) AS key,
  (ARRAY['/payments/', '/orders/', '/payments/' || n || '/refunds/'])[1 + n % 3] AS path,
  (ARRAY['payments/', 'orders/', 'payments/<int:pk>/refunds/'])[1 + n % 3] AS route
  FROM generate_series(1, {keys}) AS n) AS made
CROSS JOIN LATERAL ({raw}) AS digests"""

# Some events for each key in order, of the kinds in which they come: mostly replays.
EVENTS = """
INSERT INTO django_idempotency_keyevent (
  key_id, kind, at, status, duration_ms, method, path, remote_addr, user_agent, request_id,
  differences, request_record)
SELECT id, kind, created_at + interval '2 seconds' * (1 + i), 201, 3, method, path, remote_addr,
  user_agent, request_id || '-' || i,
  CASE WHEN kind = 'conflict' THEN '{"amount": "changed"}' ELSE '' END, ''
FROM (SELECT k.*, i, (ARRAY['replayed', 'replayed', 'in_flight', 'replayed', 'replayed',
    'conflict', 'replayed', 'failed', 'replayed', 'replayed'])
    [1 + ({each} * (number - 1) + number + i) % 10] AS kind
  FROM django_idempotency_idempotencykey k
  CROSS JOIN LATERAL (SELECT substring(request_id FROM 5)::bigint AS number) AS numbered
  CROSS JOIN generate_series(0, {each}) AS i) AS made"""

TALLIES = """
INSERT INTO django_idempotency_keytally (
  key_id, replay_count, conflict_count, in_flight_count, failure_count, given_way_count,
  last_replayed_at)
SELECT key_id, count(*) FILTER (WHERE kind = 'replayed'),
  count(*) FILTER (WHERE kind = 'conflict'), count(*) FILTER (WHERE kind = 'in_flight'),
  count(*) FILTER (WHERE kind = 'failed'), 0, max(at)
FROM django_idempotency_keyevent GROUP BY key_id"""


@dataclass(slots=True)
class Page:
    """One address, and how long it took to answer, in ms."""

    name: str
    url: str
    taken: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.admin_scale", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=2, help="a key")
    parser.add_argument("--days", type=float, default=30, help="that the keys are spread over")
    options = parser.parse_args()
    with Cluster(SETTINGS) as cluster:
        os.environ["DATABASE_URL"] = cluster.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.admin_settings"
        django.setup()
        call_command("migrate", verbosity=0)
        fill(keys=options.keys, events=options.events, days=options.days)
        measure(list(pages(options.keys)))


def fill(*, keys: int, events: int, days: float) -> None:
    from django.db import connection

    began = time.perf_counter()
    with connection.cursor() as cursor:
        for statement in (KEYS, EVENTS, TALLIES):
            text = statement.replace("{keys}", str(keys)).replace("{each}", str(events - 1))
            text = text.replace("{id}", ID).replace("{raw}", RAW).replace("{days}", str(days))
            cursor.execute(text)
        cursor.execute("VACUUM ANALYZE")
    say(f"{keys:,} keys, {keys * events:,} events in {time.perf_counter() - began:.0f} s")


def pages(keys: int) -> Iterator[Page]:
    """The list, each of its filters, searches, the page of a key, and the overview."""
    from django.urls import reverse

    from django_idempotency.models import IdempotencyKey

    base = reverse("admin:django_idempotency_idempotencykey_changelist")
    key = IdempotencyKey.objects.get(request_id=f"req-{keys // 2}")
    queries = {
        "list": "",
        "list, page 100": "?p=100",
        **{
            f"state={state}": f"?state={state}"
            for state in ("completed", "in_progress", "unfinished", "expired")
        },
        "conflicts=yes": "?conflicts=yes",
        "conflicts=no": "?conflicts=no",
        "replayed=yes": "?replayed=yes",
        "replayed=no": "?replayed=no",
        **{f"response={kind}": f"?response={kind}" for kind in ("2xx", "4xx", "5xx", "not_stored")},
        "method=PATCH": "?method=PATCH",
        "since=24h": "?since=24h",
        "since=14d": "?since=14d",
        "client, frequent": "?client=user:1",
        "client, unknown": "?client=nobody",
        "client and 4xx": "?client=user:1&response=4xx",
        "endpoint": "?endpoint=orders/",
        "endpoint, unknown": "?endpoint=nowhere/",
        "one day": f"?created_at__year={key.created_at.year}"
        f"&created_at__month={key.created_at.month}&created_at__day={key.created_at.day}",
        "one day and 5xx": f"?created_at__year={key.created_at.year}&response=5xx"
        f"&created_at__month={key.created_at.month}&created_at__day={key.created_at.day}",
        "by replays": "?o=-6",
        "by conflicts": "?o=-7",
        "search: key": f"?q={key.key}",
        "search: client": "?q=user:1",
        "search: path": "?q=/payments/9999",
        "search: request id of an event": f"?q=req-{keys}-1",
        "search: nothing": "?q=there-is-no-such-thing",
    }
    for name, query in queries.items():
        yield Page(name, base + query)
    yield Page("one key", reverse("admin:django_idempotency_idempotencykey_change", args=[key.pk]))
    overview = reverse("admin:django_idempotency_idempotencykey_overview")
    yield Page("overview", overview)
    for period in ("24h", "7d"):
        yield Page(f"overview, {period}", f"{overview}?period={period}")


def measure(asked: list[Page]) -> None:
    from django.contrib.auth import get_user_model
    from django.test import Client

    user = get_user_model().objects.create_superuser("scale")
    client = Client()
    client.force_login(user)
    for page in asked:
        ask(client, page)  # caches fill, templates compile
        page.taken.clear()
        for _round in range(ROUNDS):
            ask(client, page)
    say(f"\n{'page':36} {'median ms':>10} {'worst ms':>10}")
    for page in asked:
        late = "  over the goal" if median(page.taken) > GOAL else ""
        say(f"{page.name:36} {median(page.taken):10.0f} {max(page.taken):10.0f}{late}")
    slowest = max(asked, key=lambda page: median(page.taken))
    for name in dict.fromkeys(("list", "search: key", "one key", slowest.name)):
        explain(client, next(page for page in asked if page.name == name))


def ask(client: Any, page: Page) -> None:
    began = time.perf_counter()
    response = client.get(page.url)
    page.taken.append((time.perf_counter() - began) * 1000)
    if response.status_code != 200:
        msg = f"{page.url} answered {response.status_code}"
        raise SystemExit(msg)


def explain(client: Any, page: Page) -> None:
    """The plan of the statement that takes longest on a page, and of its runners-up."""
    from django.db import connection

    statements: list[tuple[float, str, Any]] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            statements.append(((time.perf_counter() - began) * 1000, sql, params))

    with connection.execute_wrapper(watch):
        client.get(page.url)
    say(f"\n--- {page.name}: {len(statements)} statements; the slowest three")
    reading = [one for one in statements if one[1].startswith(("SELECT", "(SELECT"))]
    for taken, sql, params in sorted(reading, key=lambda one: -one[0])[:3]:
        say(f"\n{taken:.1f} ms: {sql[:160]}…")
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", params)
            for (line,) in cursor.fetchall():
                say(f"    {line[:200]}")


if __name__ == "__main__":
    main()
