"""Security row S20 before a real server: a request that takes its worker down each time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_idempotency.models import IdempotencyKey
from django_idempotency.upkeep import forget
from tests.orders.models import Order
from tests.proof.fuzz_range import Site, served
from tests.proof.fuzz_wire import order, post
from tests.sender import new_key

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

CRASHES = 3
SKU = "fuzz-0123456789abcdefx"


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    with served("strict", FUZZ_IDEMPOTENCY=json.dumps({"MAX_CRASHES": CRASHES})) as site:
        yield site


def test_s20_a_poison_request_stops_killing_workers(site: Site) -> None:
    """S20: three workers die of it and no more; it is told so, others are served meanwhile."""
    key, way = new_key(), "/fault/dies/"
    crews: list[Any] = [site.crew]

    for _ in range(CRASHES):
        assert post(site.port, way, key, "poison").status == 0  # nobody is there to answer
        site.recrew()
        crews.append(site.crew)
        assert order(site.port, "/plain/", new_key(), SKU).status == 201
    took = []
    for _ in range(5):
        began = time.perf_counter()
        refused = post(site.port, way, key, "poison")
        took.append(time.perf_counter() - began)
        assert (refused.status, json.loads(refused.body)["code"]) == (
            *(409, "idempotency_attempts_exhausted"),
        )

    assert len({tuple(crew) for crew in crews}) == 1 + CRASHES
    assert site.at_work() == site.crew, site.tracebacks()  # the last one lives
    assert min(took) < 0.05
    row = IdempotencyKey.objects.get(key=key)
    assert (row.attempts, row.completed_at) == (CRASHES, None)
    assert Order.objects.count() == CRASHES  # of the others

    # The operator mends the cause and frees the key: the client's next try succeeds.
    assert forget([row.pk]).changed == {row.pk}
    assert order(site.port, way, key, SKU).status == 201
