"""Many clients at once before real workers: one effect a key, no wrong refusal, no pile-up."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.test_servers import database_url
from tests.proof.server import Server, gunicorn
from tests.proof.storms import Storm, ask_here, many_keys, many_replays, one_slow_request
from tests.sender import new_key

pytestmark = [
    pytest.mark.row_locks,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
]

WORKERS = 4
HEALTHY = float(os.environ.get("PROOF_HEALTH_SECONDS", "0.2"))  # for 95 % of the looks


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Server]:
    with gunicorn(database_url(), WORKERS, keep=60) as server:
        yield server


@pytest.fixture
def planted(django_db_setup: None) -> Callable[[str], Any]:
    """``with planted(mistake) as server``: as above, with a library that is wrong."""
    return lambda plant: gunicorn(database_url(), WORKERS, plant=plant, keep=60)


def chosen_seed() -> int:
    return int(os.environ.get("PROOF_SEED", random.randrange(2**32)))


def check(name: str, storm: Storm, tell: Callable[[str], None]) -> None:
    tell(f"storm ({name}): {storm.measured}")
    assert not storm.complaints, storm.complaints[:10]


def test_two_hundred_keys_with_eight_twins_each(server: Server, tell: Any) -> None:
    """Some with another body: one order a key, nobody is answered 500, 422 only beside another."""
    check("many keys", many_keys(server, ask_here, seed=chosen_seed()), tell)


def test_two_hundred_replays_at_once(server: Server, tell: Any) -> None:
    """None is refused for the sake of the others, and each is counted."""
    check("replays", many_replays(server, ask_here, new_key()), tell)


@pytest.mark.postgres  # a limit in seconds is nothing for a driver in plain Python
def test_fifty_twins_of_a_slow_request(server: Server, tell: Any) -> None:
    """For three seconds they do not hold workers, and all of them are counted."""
    check("twins of a slow request", best_of_three(server), tell)


def best_of_three(server: Server, **smaller: Any) -> Storm:
    """A machine with much else to do spoils a look or two; twins that wait spoil each storm."""
    for _ in range(3):
        storm = one_slow_request(server, ask_here, new_key(), limit=HEALTHY, **smaller)
        if not any("/health/ p95" in complaint for complaint in storm.complaints):
            break
    return storm


# Negative controls: the same storms, smaller where that is enough, on a library that is wrong.


@pytest.mark.postgres
def test_twins_without_a_lock(planted: Any) -> None:
    with planted("lock_no_row") as server:
        storm = many_keys(server, ask_here, seed=chosen_seed(), keys=40)
    assert any(" effects," in complaint for complaint in storm.complaints), storm


def test_replays_that_take_the_lock(planted: Any) -> None:
    with planted("lock_what_is_replayed") as server:
        storm = many_replays(server, ask_here, new_key())
    assert "a replay was answered 409" in storm.complaints, storm


def test_replays_that_are_not_counted(planted: Any) -> None:
    with planted("count_nothing") as server:
        storm = many_replays(server, ask_here, new_key(), clients=4, each=2)
    assert storm.complaints == ["counted 0 replays of 8, 0 refusals"]


@pytest.mark.postgres
def test_twins_that_wait(planted: Any) -> None:
    with planted("wait_for_the_lock") as server:
        storm = best_of_three(server, seconds=1, twins=8)
    assert any("/health/ p95" in complaint for complaint in storm.complaints), storm
