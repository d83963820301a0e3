"""``manage.py storm``: nothing is twice where keys are read, and it sees what is where not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import stamina
from django.core.management import CommandError, call_command

from django_idempotency.models import IdempotencyKey
from example_project.shop import storm as storms
from example_project.shop.management.commands import storm as command
from example_project.shop.models import GuestOrder
from example_project.shop.storm import Effects, Outcome, Storm, percentile
from tests.client.server import answer, drop, scripted
from tests.shop_server import running_shop

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ROWS = (
    *("operations", "attempts", "executed", "replayed", "refused in flight", "conflicts"),
    *("failed", "unknown", "lost", "duplicates", "p50", "p95"),
)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shop() -> Iterator[str]:
    with running_shop() as url:
        yield url


def run(url: str, *, out: Any = None, **options: Any) -> dict[str, int]:
    """The table of a storm."""
    out = out if out is not None else StringIO()
    usual = {"operations": 60, "concurrency": 6, "drop": 0.3, "double": 0.3, "no_color": True}
    call_command("storm", url=url, stdout=out, **{**usual, **options})
    return table(out.getvalue())


def table(text: str) -> dict[str, int]:
    rows = dict(re.findall(r"^([a-z][a-z0-9 ]+?) +(\d+)(?: ms)?$", text, re.MULTILINE))
    assert tuple(rows) == ROWS
    return {name: int(count) for name, count in rows.items()}


def storm_orders() -> int:
    return GuestOrder.objects.filter(item__startswith="storm-").count()


@pytest.mark.slow
def test_a_storm_leaves_one_order_for_each_operation(shop: str) -> None:
    """Dropped and doubled, and the table is what the database holds."""
    hooks, out = stamina.instrumentation.get_on_retry_hooks(), StringIO()
    rows = run(shop, out=out)

    assert rows["operations"] == rows["executed"] == storm_orders() == 60
    assert rows["attempts"] > 60
    assert rows["replayed"] + rows["refused in flight"] > 0
    assert rows["replayed"] == sum(key.replay_count for key in IdempotencyKey.objects.all())
    wrong = ("conflicts", "failed", "unknown", "lost", "duplicates")
    assert [rows[name] for name in wrong] == [0] * 5
    assert 0 < rows["p50"] <= rows["p95"]
    assert "\r" not in out.getvalue()
    assert "Every order was placed at most once." in out.getvalue()
    assert stamina.instrumentation.get_on_retry_hooks() == hooks


@pytest.mark.slow
def test_it_sees_duplicates_where_the_keys_get_lost() -> None:
    """A shop behind something that strips the header: each drop and each double is an order."""
    out = StringIO()
    with (
        running_shop("tests.unprotected_shop") as url,
        pytest.raises(CommandError, match=r"orders were placed more than once, such as storm-"),
    ):
        run(url, out=out)

    rows = table(out.getvalue())
    assert rows["operations"] == 60
    assert rows["executed"] == storm_orders() == rows["attempts"]
    assert rows["duplicates"] == rows["executed"] - 60 > 10
    assert not IdempotencyKey.objects.exists()


@pytest.mark.slow
def test_it_shows_what_the_keys_prevent(shop: str) -> None:
    """``--unprotected`` hides them from a shop that would read them."""
    out = StringIO()
    with pytest.raises(CommandError, match="placed more than once") as caught:
        run(shop, out=out, unprotected=True, operations=20)
    assert caught.value.returncode == 1
    assert table(out.getvalue())["duplicates"] > 0


@pytest.mark.slow
def test_all_answers_lost_is_unknown_and_no_failure(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each order was placed once; the client never learned it, and says so."""
    patient = storms.RetryPolicy(attempts=3, base=0.01, cap=0.05)
    monkeypatch.setattr(storms, "POLICY", patient)

    rows = run(shop, operations=8, drop=1, double=0)

    assert (rows["attempts"], rows["unknown"]) == (24, 8)
    assert (rows["executed"], rows["duplicates"], rows["failed"], rows["lost"]) == (8, 0, 0, 0)


@pytest.mark.slow
def test_a_terminal_sees_a_bar(shop: str) -> None:
    """Which grows to its end, on one line."""
    out = Terminal()
    run(shop, operations=5, drop=0, double=0, out=out)
    bar = out.getvalue().partition("\noperations")[0].split("\r")
    assert bar[-1] == f"[{'#' * 30}] 5/5 operations, 5 attempts"
    assert len(bar) > 2


@pytest.mark.slow
def test_ctrl_c_ends_it_with_what_is_known(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations that had not begun are not begun."""
    usual = Storm.fire

    def interrupted(storm: Storm) -> Iterator[Outcome]:
        for outcome in usual(storm):
            yield outcome
            if len(storm.outcomes) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(Storm, "fire", interrupted)
    out = StringIO()
    with pytest.raises(CommandError, match="Interrupted") as caught:
        run(shop, out=out, operations=5000, concurrency=2, drop=0, double=0)
    assert caught.value.returncode == 130
    assert table(out.getvalue())["operations"] == 3
    assert 3 <= storm_orders() < 100


# -- nothing to storm


def test_no_server() -> None:
    """The message says how to get one."""
    with socket.socket() as bound:  # not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(CommandError, match=f"No server answers at {url}.*manage.py demo"):
            run(url)


def origin(url: str) -> str:
    return url.removesuffix("/pay")


def test_a_server_that_hangs_up() -> None:
    """That is no answer either."""
    with scripted(drop) as script, pytest.raises(CommandError, match="No server answers at"):
        run(origin(script.url))


def test_a_server_that_is_no_shop() -> None:
    """What it answered is told."""
    with scripted(answer(404)) as script, pytest.raises(CommandError, match=r"answered 404.*Is th"):
        run(origin(script.url))
    assert len(script.seen) == 1


def test_a_shop_on_another_database() -> None:
    """Zero duplicates would be a lie there, so nothing is fired."""
    created = answer(201, json.dumps({"number": "1"}).encode())
    with (
        scripted(created) as script,
        pytest.raises(CommandError, match=r"not in this database.*Set DATABASE_URL"),
    ):
        run(origin(script.url))
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"operations": 0}, "--operations must be 1 to 100000, not 0"),
        ({"operations": 100_001}, "--operations must be"),
        ({"concurrency": -1}, "--concurrency must be 1 to 200, not -1"),
        ({"drop": -0.1}, "--drop is a share: 0 to 1"),
        ({"double": float("nan")}, "--double is a share: 0 to 1, not nan"),
        ({"drop": 0.6, "double": 0.6}, "together must be at most 1"),
        ({"url": "127.0.0.1:8000"}, "--url must be like http://"),
        ({"url": "ftp://x"}, "--url must be like http://"),
        ({"url": "http://"}, "--url must be like http://"),
    ],
)
def test_bad_numbers_are_refused_with_the_rule(options: dict[str, Any], rule: str) -> None:
    """Before anything is sent."""
    with pytest.raises(CommandError, match=re.escape(rule)):
        run(**{"url": "http://127.0.0.1:1", **options})


# -- the verdict


@pytest.mark.parametrize(
    ("report", "orders", "verdict"),
    [
        ("done", {7: 1}, None),
        ("unknown", {7: 1}, None),
        ("unknown", {}, None),
        ("done", {7: 2}, "1 orders were placed more than once, such as storm-run-000007."),
        ("unknown", {7: 3}, "placed more than once"),
        ("done", {}, "1 orders were reported as done and never placed"),
        ("answered 400", {7: 1}, "reported as failed and placed"),
        ("answered 429", {}, "The shop refused orders that were in order: 1 answered 429."),
    ],
)
def test_the_client_is_compared_with_the_database(
    report: str, orders: dict[int, int], verdict: str | None
) -> None:
    """Duplicates, orders that are missing, and failures that were none."""
    storm = Storm("http://x", operations=1, concurrency=1, drop=0, double=0, seed=1, run="run")
    storm.outcomes.append(Outcome(7, report, 0.1))
    effects = Effects(orders, replayed=0, in_flight=0, conflicts=0)
    if verdict is None:
        command._judge(storm, effects)
    else:
        with pytest.raises(CommandError, match=re.escape(verdict)):
            command._judge(storm, effects)


def test_percentiles() -> None:
    """Of what was measured, not between."""
    seconds = [float(number) for number in range(100, 0, -1)]
    assert (percentile(seconds, 0.5), percentile(seconds, 0.95)) == (51, 96)
    assert (percentile([2.0], 0.95), percentile([], 0.5)) == (2, 0)
