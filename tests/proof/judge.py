"""The invariants. Each takes a scenario that has ended and adds what it violated.

I1  one effect: as many orders as the flow leads to, whatever was struck
I2  one body: all final answers of a key are byte-identical
I3  a final answer is backed by committed rows: its order and the key's stored response
I4  a refusal is true: after 4xx, 500 and "not carried out" there is no effect
I5  the key works again within five seconds and eight retries
I6  ``on_commit()`` ran for committed work only, and once
I7  an answer that asks for a retry says when
I8  no answer but those that the flow knows
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.proof.bench import ORDERS
from tests.proof.flows import PROVOKING, Scenario
from tests.proof.views import IN_STOCK, STOCK

FINAL = {201, 402}
USABLE_AGAIN = 5.0  # seconds
# Shapes that may end in 500: what they swallow or fail to render surfaces as such.
MAY_FAIL = {"nested", "swallow_orm", "swallow_sql", "unrenderable"}


def refused(scenario: Scenario, answer: dict[str, Any] | None) -> Iterator[str]:
    """I4, right after the struck attempt."""
    if answer is None or answer["status"] in FINAL or "outcome-unknown" in answer["body"]:
        return
    effects = scenario.stand.effects(scenario.key)
    if len(effects) != scenario.base:
        yield f"I4 {answer['status']} with {len(effects) - scenario.base} effects"


def ended(scenario: Scenario, seconds: float) -> Iterator[str]:
    """All invariants, after the last retry and one more replay."""
    effects = scenario.stand.effects(scenario.key)
    if len(effects) != scenario.expected:
        yield f"I1 {len(effects)} effects, not {scenario.expected}"
    if scenario.shape == "update":
        sku = STOCK + scenario.key
        left = scenario.stand.ask(f"SELECT qty FROM {ORDERS} WHERE sku = %s", sku)[0][0]
        if left != IN_STOCK - scenario.expected:
            yield f"I1 {IN_STOCK - left} taken from the stock"
    yield from _answers(scenario, effects)
    if seconds > USABLE_AGAIN:
        yield f"I5 unusable for {seconds:.1f} s"
    if len(set(scenario.committed)) != len(scenario.committed):
        yield "I6 on_commit() ran twice"
    if not set(scenario.committed) <= set(effects):
        yield "I6 on_commit() ran for what was rolled back"


def _answers(scenario: Scenario, effects: list[int]) -> Iterator[str]:
    answers = scenario.answers[scenario.before :]
    final = [answer for answer in answers if answer["status"] in FINAL]
    if len({answer["body"] for answer in final}) > 1:
        yield f"I2 {len({answer['body'] for answer in final})} bodies"
    for answer in final:
        if json.loads(answer["body"])["id"] not in effects:
            yield "I3 a final answer without an order"
        if scenario.stand.stored(scenario.key) != (answer["status"], answer["body"]):
            yield "I3 a final answer that is not the stored one"
    for answer in answers:
        if answer["status"] in {409, 503} and not answer["retry_after"]:
            yield f"I7 {answer['status']} without Retry-After"
        if answer["status"] not in known(scenario) and not scenario.is_final(answer):
            yield f"I8 {answer['status']}: {answer['body'][:80]}"


def known(scenario: Scenario) -> set[int]:
    statuses = {scenario.final, 409, 503, 402 if scenario.shape == "returned" else 201}
    if scenario.shape in MAY_FAIL:
        statuses.add(500)
    if scenario.shape in PROVOKING:
        statuses.add(400)
    return statuses
