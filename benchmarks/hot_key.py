"""How many replays of one key a database answers: ``python -m benchmarks.hot_key``.

Only the two statements of a replay, sent by pgbench from 32 connections, for no client in Python
could keep the server busy. Each reads the response and counts itself in the same row.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import say
from benchmarks.stage import database

CLIENTS, THREADS = 32, 2
AIM = 5000  # replays a second
_SENT = re.compile(r"transactions actually processed: (\d+)")
_RATE = re.compile(r"tps = ([\d.]+)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_key", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with database() as cluster:
        pgbench = Path(cluster.installation.bin) / "pgbench"
        for mode in ("simple", "prepared"):
            say(_measured(pgbench, cluster.url, mode, options.seconds))


def _measured(pgbench: Path, url: str, mode: str, seconds: int) -> str:
    from django_idempotency.models import IdempotencyKey  # here: they need the setup

    key, statements = _replay()
    with TemporaryDirectory() as directory:
        script = Path(directory) / "replay.sql"
        script.write_text("".join(f"{statement};\n" for statement in statements))
        often = ["-c", str(CLIENTS), "-j", str(THREADS), "-T", str(seconds), "-M", mode]
        said = subprocess.run(  # noqa: S603 - of the PostgreSQL that we have just started
            [str(pgbench), "-n", *often, "-f", str(script), url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    (sent,), (rate,) = _SENT.findall(said), map(float, _RATE.findall(said))
    counted = IdempotencyKey.objects.get(pk=key).replay_count
    exact = "all counted" if counted == int(sent) else f"{counted} COUNTED"
    verdict = "met" if rate >= AIM else "MISSED"
    return (
        f"{mode:9}{CLIENTS} connections, {sent} replays, {exact}, {rate:.0f} a second "
        f"(aim {AIM}: {verdict})"
    )


def _replay() -> tuple[object, list[str]]:
    """A finished key, and the statements of its replay with everything filled in."""
    from django.db import connection, transaction
    from psycopg import ClientCursor

    from django_idempotency.protocol import KeyedRequest, StoredResponse
    from django_idempotency.rows import KeyRows

    request = KeyedRequest(
        scope="user:1",
        key=os.urandom(16).hex(),
        fingerprints=("f" * 64,),
        method="POST",
        path="/payments/",
        route="payments/",
        retention=timedelta(hours=24),
    )
    rows, texts = KeyRows(request, "default"), []
    rows.claim()
    with transaction.atomic():
        rows.lock()
        rows.complete(StoredResponse(status=201, body=b"." * 300), duration_ms=1)

    def note(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        texts.append(ClientCursor(connection.connection).mogrify(sql, params))

    with connection.execute_wrapper(note):
        rows.count("replayed", status=201, duration_ms=1, evidence={}, events=True)
        rows._execute(rows.sql.claim, (rows._pk, *rows._claimed()))  # noqa: SLF001 - as claim()
    return request.id, list(reversed(texts))


if __name__ == "__main__":
    main()
