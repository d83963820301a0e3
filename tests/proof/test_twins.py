"""One key, two requests at once: one effect, in every interleaving of one with all of the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from tests.proof.bench import LEVELS, OF_ALL, Site, Verdict, bench
from tests.proof.enumeration import count
from tests.proof.fault_proxy import Fault
from tests.proof.flows import Scenario
from tests.proof.twins import RIVALS, enumerate_twins
from tests.proof.worker import PATIENCE

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.proof.urls"),
]

FLOWS = ("first", "again", "takeover", "expired")
SITES = [Site(*choice) for choice in product((False, True), LEVELS, ("direct", "pooled"))]
SITES += [Site(level=level) for level in OF_ALL]  # of the server's default, which poolers ignore


@pytest.fixture
def interleaved(
    request: pytest.FixtureRequest, judged: Callable[[str, Verdict], None]
) -> Callable[..., None]:
    def run(site: Site, *what: str) -> None:
        pooler: Any = request.getfixturevalue("pooler") if site.route == "pooled" else None
        judged("interleavings", enumerate_twins(site, *what, pooler=pooler))

    return run


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("site", [Site(), Site(level="SER-all")], ids=str)
def test_two_at_once(interleaved: Callable[..., None], site: Site, rival: str) -> None:
    """A first execution against its twin, another body, the purge, and an operator."""
    interleaved(site, "expired" if rival == "purge" else "first", "create", rival)


def test_overtaken_by_another_request_that_failed() -> None:
    """I4: raised, it never happened, so nobody may be told that the key was used for it."""
    with bench(Site()) as stand:
        scenario = Scenario(stand, "first", "create")
        assert count(Scenario(stand, "first", "create")) == 6
        scenario.prepare()
        stand.proxy.arm(Fault(2, "before", "stall"))  # claimed, and not locked
        first = scenario.strike()
        assert stand.proxy.fired.wait(PATIENCE)
        other = scenario.attempt(qty=2, provoke="fail")
        stand.proxy.released.set()
        answer = scenario.hear(first)
        assert other is not None
        assert other["status"] == 500
        assert answer is not None
        assert answer["status"] in {201, 409}, answer


@pytest.mark.proof
@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("rival", RIVALS)
def test_every_two_at_once(
    interleaved: Callable[..., None], site: Site, flow: str, rival: str
) -> None:
    """The full product, with a view that locks a row of its own."""
    interleaved(site, flow, "update", rival)


@pytest.mark.proof
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("shape", ["plain", "async"])
def test_every_two_at_once_elsewhere(
    interleaved: Callable[..., None], flow: str, rival: str, shape: str
) -> None:
    """And the other ways into the engine."""
    interleaved(Site(), flow, shape, rival)
