"""The checker of histories turns red, too: made-up histories, each with one thing wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.proof.history import History, Operation

BODY = b'{"id": 7}'
DONE = Operation("k", 1, began=0.0, ended=1.0, status=201, body=BODY)
AGAIN = Operation("k", 1, began=2.0, ended=3.0, status=201, body=BODY, replayed=True)
REFUSED = Operation("k", 1, began=0.5, ended=0.6, status=409)
FAILED = Operation("k", 1, began=0.0, ended=1.0, status=503)
CRASHED = Operation("k", 1, began=0.0, ended=1.0, status=500)
OTHER = Operation("k", 2, began=0.5, ended=0.6, status=422)
LOST = Operation("k", 1, began=0.0, ended=1.0)
UNKNOWN = Operation("k", 1, began=0.0, ended=1.0, status=503, body=b"outcome-unknown")
ONE, NONE = {7: 1}, dict[int, int]()


def found(operations: list[Operation], orders: dict[int, int], stored: Any) -> list[str]:
    history = History(0)
    history.operations = operations

    def ask(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        rows = orders.items() if "orders_order" in statement else stored
        return [("k", *row) for row in rows]

    return list(history.violations(ask))


@pytest.mark.parametrize(
    ("operations", "orders", "stored"),
    [
        ([DONE, REFUSED, AGAIN], ONE, [(201, BODY)]),
        ([FAILED], NONE, [(None, None)]),
        ([LOST], NONE, []),
        ([LOST], ONE, [(201, BODY)]),
        ([UNKNOWN], ONE, [(201, BODY)]),
        ([UNKNOWN], NONE, [(None, None)]),
        ([UNKNOWN, AGAIN], ONE, [(201, BODY)]),
        ([OTHER, DONE], ONE, [(201, BODY)]),
        ([FAILED, Operation("k", 1, 2.0, 3.0, 409)], NONE, [(None, None)]),
    ],
)
def test_what_may_happen(operations: Any, orders: Any, stored: Any) -> None:
    """Lost answers may stand for either; the rest is what was told."""
    assert not found(operations, orders, stored)


@pytest.mark.parametrize(
    ("operations", "orders", "stored", "what"),
    [
        ([DONE], {7: 1, 8: 1}, [(201, BODY)], "2 effects"),
        ([DONE], NONE, [(201, BODY)], "0 effects"),
        ([FAILED], ONE, [(None, None)], "1 effects, 0 final"),
        ([DONE], {7: 2}, [(201, BODY)], "no committed order"),
        ([DONE], ONE, [(201, b"other")], "not the stored one"),
        ([DONE], ONE, [(None, None)], "not the stored one"),
        ([DONE, DONE], ONE, [(201, BODY)], "no replay"),
        (
            [DONE, Operation("k", 1, 2.0, 3.0, 201, b'{"id": 8}', replayed=True)],
            ONE,
            [(201, BODY)],
            "different final answers",
        ),
        ([DONE, Operation("k", 1, 2.0, 3.0, 409)], ONE, [(201, BODY)], "409 though"),
        ([CRASHED, Operation("k", 1, 2.0, 3.0, 409)], NONE, [(None, None)], "409 though"),
        ([DONE, Operation("k", 1, 2.0, 3.0, 422)], ONE, [(201, BODY)], "422 though"),
        ([OTHER, DONE, Operation("k", 1, 2.0, 3.0, 422)], ONE, [(201, BODY)], "422 though"),
    ],
)
def test_what_may_not(operations: Any, orders: Any, stored: Any, what: str) -> None:
    """Doubled, lost, phantom, diverging, untrue."""
    assert any(what in violation for violation in found(operations, orders, stored))


def test_how_long_a_key_was_without_an_answer() -> None:
    """To its first final answer, whatever comes later; without one, to the last question."""
    history = History(0)
    history.operations = [DONE, AGAIN, *(replace(REFUSED, key="n", ended=t) for t in (7.0, 9.5))]

    assert history.longest_wait() == 9.0
    history.operations[2:] = []
    assert history.longest_wait() == 1.0
