"""How long a claim, a whole request, a replay and a search take, at each size in turn.

In every round each size gets one of each, in an order drawn by lot. Whatever else the machine
does at that moment it does to all sizes alike, so the ratio of their medians can be trusted.
On a busy machine the time on the wall is mostly waiting for a processor; what the server's
process has used of one is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from benchmarks.report import quantile, say
from benchmarks.scale.stopwatch import STATEMENTS, Stopwatch

VISITS = 10  # of the admin: it takes long and disturbs the processor's caches
GOAL = 1.3  # claim at the largest size, times the smallest
WHOLE = ("bare view", "first execution", "replay", "search by key")
PAGES = ("admin, searched", "admin, list")


def measure(sizes: list[int], *, rounds: int, warmup: int) -> None:
    """Print two tables, and whether the goal is met."""
    admin = Client()
    admin.force_login(get_user_model().objects.create_superuser("scale"))
    watches = [Stopwatch(rows) for rows in sizes]
    lot = random.Random(1)  # noqa: S311 - a benchmark
    for number in range(-warmup, rounds):
        for watch in lot.sample(watches, len(watches)):
            watch.send()
            if number % max(rounds // VISITS, 1) == 0:
                _visit(watch, admin)
        if number == -1:
            for watch in watches:
                watch.clear()
    _table("wall, µs", (*STATEMENTS, *WHOLE, *PAGES), watches, lambda it, step: it.wall[step])
    _table("server's CPU, µs", ("claim", "lock", *WHOLE), watches, lambda it, step: it.server[step])
    wall, used = (
        median(of(watches[-1])["claim"]) / median(of(watches[0])["claim"])
        for of in (lambda watch: watch.wall, lambda watch: watch.server)
    )
    say(
        f"claim at {sizes[-1]:,} x at {sizes[0]:,} keys: wall {wall:.2f}, server's CPU "
        f"{used:.2f}; at most {GOAL}: {'met' if wall <= GOAL else 'MISSED'}"
    )


def _visit(watch: Stopwatch, admin: Client) -> None:
    url = reverse("admin:django_idempotency_idempotencykey_changelist")
    for name in PAGES:
        watch.visit(name, admin, url, search=name.endswith("searched"))


def _table(
    title: str,
    steps: tuple[str, ...],
    watches: list[Stopwatch],
    values: Callable[[Stopwatch, str], list[float]],
) -> None:
    """Lower quartile, median, and the median's ratio to the smallest size."""
    say("", f"{title:20}" + "".join(f"{watch.rows:>29,}" for watch in watches))
    say(f"{'':20}" + f"{'25 %':>11}{'50 %':>11}{'ratio':>7}" * len(watches))
    for step in steps:
        least = median(values(watches[0], step))
        cells = ""
        for watch in watches:
            taken = values(watch, step)
            cells += f"{quantile(taken, 0.25):11,.0f}{median(taken):11,.0f}"
            cells += f"{median(taken) / least:7.2f}"
        say(f"{step:20}{cells}")
