"""No crash at any round trip doubles an effect, loses one, or leaves a key unusable.

At every round trip of a request, the connection, BEGIN and COMMIT included, and there before,
during and after it, the connection is dropped or the worker killed; ``judge`` has the invariants.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from tests.proof.bench import LEVELS, OF_ALL, Site
from tests.proof.enumeration import checkerboard
from tests.proof.flows import FLOWS
from tests.proof.views import SHAPES

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.proof.urls"),
]

Enumerated = Callable[..., None]
WAYS = (*SHAPES, "plain", "async")
SITES = [Site(*choice) for choice in product((False, True), LEVELS, ("direct", "pooled"))]
SITES += [Site(level=level) for level in OF_ALL]  # of the server's default, which poolers ignore
STORING = ["STORE_RAISED_4XX", "STORE_5XX"]
OTHERS = [flow for flow in FLOWS if flow != "first"]


@pytest.mark.parametrize("shape", WAYS)
def test_first_executions(enumerated: Enumerated, shape: str) -> None:
    """Each shape of view executes once, struck at every round trip on one side or the other."""
    enumerated(Site(), "first", shape, pick=checkerboard)


@pytest.mark.parametrize("flow", OTHERS)
def test_other_flows(enumerated: Enumerated, flow: str) -> None:
    """So it is for repeats, refusals, take-overs, expired keys and the purge."""
    enumerated(Site(), flow, "create", pick=checkerboard)


@pytest.mark.parametrize(
    "site",
    [Site(True, "SER", "pooled"), Site(True, "RR"), Site(level="RR-all"), Site(kept=True)],
    ids=str,
)
def test_other_sites(enumerated: Enumerated, site: Site) -> None:
    """So it is behind PgBouncer, under stricter isolation, and on one connection for all."""
    enumerated(site, "first", "update", pick=checkerboard)


@pytest.mark.parametrize("shape", ["nested", "unrenderable"])
@pytest.mark.parametrize("setting", STORING)
def test_where_failures_are_stored(enumerated: Enumerated, setting: str, shape: str) -> None:
    """The view runs inside a savepoint; what it leaves broken surfaces all the same."""
    enumerated(Site(storing=(setting,)), "first", shape, pick=checkerboard)


@pytest.mark.parametrize("setting", STORING)
def test_a_swallowed_error_where_failures_are_stored(enumerated: Enumerated, setting: str) -> None:
    """I1, I3: as without these settings, a view that swallows an ORM error must get 500."""
    enumerated(Site(storing=(setting,)), "first", "swallow_orm", pick=checkerboard)


@pytest.mark.proof
@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("shape", WAYS)
def test_every_first_execution(enumerated: Enumerated, site: Site, shape: str) -> None:
    """The full product for first executions."""
    enumerated(site, "first", shape)


@pytest.mark.proof
@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("flow", OTHERS)
def test_every_other_flow(enumerated: Enumerated, site: Site, flow: str) -> None:
    """The full product for the other flows."""
    enumerated(site, flow, "create")


@pytest.mark.proof
@pytest.mark.parametrize("flow", OTHERS)
@pytest.mark.parametrize("shape", ["update", "plain", "async"])
def test_every_other_flow_elsewhere(enumerated: Enumerated, flow: str, shape: str) -> None:
    """And in the other ways into the engine, and with a row that two executions change."""
    enumerated(Site(), flow, shape)


@pytest.mark.proof
@pytest.mark.parametrize("site", [Site(kept=True), Site(True, "SER", "pooled", True)], ids=str)
@pytest.mark.parametrize("flow", ["first", "again", "takeover", "expired"])
@pytest.mark.parametrize("shape", ["update", "swallow_sql", "plain", "async"])
def test_every_kept_connection(enumerated: Enumerated, site: Site, flow: str, shape: str) -> None:
    """One worker whose persistent connection breaks makes all attempts."""
    enumerated(site, flow, shape)
