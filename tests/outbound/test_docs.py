"""``docs/client.md`` is true: its examples do what it says, its lists are complete."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.core.management import call_command, load_command_class
from django.core.management.base import DjangoHelpFormatter

from benchmarks.retry_storm import STRATEGIES, simulate, table
from django_idempotency import client as clients
from django_idempotency.client import OutcomeUnknown, RetryBudget, RetryingClient, RetryPolicy
from django_idempotency.client.policy import full_jitter
from django_idempotency.contrib import outbound
from django_idempotency.contrib.outbound import OutboundIntent
from example_project.shop.management.commands import storm
from tests.client.conftest import TRUST
from tests.client.server import Script, answer, drop, scripted
from tests.orders.models import Order

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text()
AN_HOUR = timedelta(hours=1)
QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.01, deadline=5)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def example(marker: str, instead: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The names of the one Python example that contains ``marker``, with other addresses."""
    (block,) = [block for block in blocks("python") if marker in block]
    for address, other in (instead or {}).items():
        block = block.replace(address, other)
    names: dict[str, Any] = {"__name__": "shop.example"}
    exec(compile(block, "<docs/client.md>", "exec"), names)  # noqa: S102 - our own document
    return names


def section(head: str) -> str:
    return PAGE.partition(f"## {head}\n")[2].partition("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The tables of a text: {first cell: the others}."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip("`"): cells[1:] for cells in found}


def shop(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(autouse=True)
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    shop(monkeypatch, "shop")
    shop(monkeypatch, "shop.models", Order=Order)


# -- the client


@pytest.mark.parametrize(
    "marker", ["with RetryingClient(httpx", "with RetryingClient(requests", "with AsyncRetrying"]
)
def test_a_payment_is_made(marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the first three examples sends one keyed POST to the shop."""
    with scripted(answer(503, Retry_After="0"), answer(201)) as script:
        origin = script.url.removesuffix("/pay")
        answered = example(marker, {"https://shop.example": origin})["pay"](17, 1250)
        if inspect.isawaitable(answered):
            answered = asyncio.run(_wait(answered))
    assert answered.status_code == 201
    first, second = script.seen
    assert first == second
    assert first.key
    assert b"1250" in first.body


async def _wait(answered: Any) -> Any:
    return await answered


@pytest.mark.parametrize(
    ("step", "said"),
    [(answer(201), "Thank you."), (answer(402), "Your card was declined."), (drop, "We are check")],
)
def test_what_the_customer_is_told(step: Any, said: str, capsys: Any) -> None:
    """Done, refused, unknown: three different things."""
    pay = example("except OutcomeUnknown as unknown")["pay"]
    with (
        scripted(step) as script,
        RetryingClient(httpx.Client(base_url=script.url, verify=TRUST), policy=QUICK) as client,
    ):
        assert pay(client, 1250, "stored-key").startswith(said)
    assert {seen.key for seen in script.seen} == {"stored-key"}
    assert ("stored-key" in capsys.readouterr().out) is (step is drop)


def test_the_policy_is_documented_with_its_defaults() -> None:
    """Each field, and no other."""
    documented = {name: cells[1] for name, cells in rows(section("How it waits")).items()}
    del documented["RetryPolicy"]  # the head
    assert documented == {field.name: f"`{field.default}`" for field in fields(RetryPolicy)}


def test_the_bounds_of_the_pauses_are_those_of_the_formula() -> None:
    """0.5, 1, 2 and 4 seconds."""
    usual = RetryPolicy()
    bounds = [
        full_jitter(retry, base=usual.base, cap=usual.cap, rand=lambda: 1.0)
        for retry in range(usual.attempts - 1)
    ]
    told = re.search(r"bounds with the defaults are ([\d., and]+)\nseconds", PAGE)
    assert told is not None
    assert [float(number) for number in re.findall(r"\d+(?:\.\d+)?", told[1])] == bounds


def test_the_budget_is_the_one_that_is_told() -> None:
    """0.1 tokens into a bucket of 10."""
    usual = RetryBudget()
    assert f"puts {usual.share:g} tokens into a bucket of {usual.burst:g}" in PAGE


def test_the_numbers_of_the_storm_are_those_of_the_simulation() -> None:
    """The table beside the picture."""
    results = {strategy.name: simulate(strategy) for strategy in STRATEGIES}
    printed = "\n".join(line.rstrip() for line in table(results)) + "\n"
    assert printed in blocks("text")


def test_everything_public_is_on_the_page() -> None:
    """Names that can be imported can be looked up, and so can what they carry."""
    public = {*clients.__all__, *outbound.__all__} | {name for name, _ in facts()}
    assert [
        name for name in sorted(public) if f"`{name}" not in PAGE and f"{name}(" not in PAGE
    ] == []


def facts() -> Iterator[tuple[str, Any]]:
    unknown = OutcomeUnknown(
        key="k", attempts=1, last_error="e", reason="r", may_have_happened=True
    )
    yield from vars(unknown).items()


def test_the_attributes_of_outcome_unknown_are_listed() -> None:
    """All of them, and no other."""
    documented = rows(section("Exceptions").partition("It carries:")[2])
    assert set(documented) - {"attribute"} == {name for name, _ in facts()}


# -- the intents


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Script]]:
    """``gateway(step, …)``: the walk-through's gateway, and its module ``shop.outbound``."""
    stack = ExitStack()

    def start(*steps: Any) -> Script:
        script = stack.enter_context(scripted(*steps))
        origin = script.url.removesuffix("/pay")
        names = example('@sends("charge")', {"https://gateway.example": origin})
        stack.enter_context(names["gateway"]).policy = QUICK
        shop(monkeypatch, "shop.outbound", charge=names["charge"])
        return script

    with stack:
        yield start


def test_the_walk_through(gateway: Any, transactional_db: None, later: Any, capsys: Any) -> None:
    """Stored with the order, sent and lost, sent again by the command with the same key."""
    script = gateway(drop, drop, answer(201))
    order = example("def place_order(sku: str) -> Order")["place_order"]("tea")
    intent = OutboundIntent.objects.get()

    state = example("def pay(order: Order) -> str")["pay"](order)
    assert (state, len(script.seen)) == ("unknown", 2)

    intent.refresh_from_db()
    later(intent, AN_HOUR)
    call_command("retry_outbound_intents")

    intent.refresh_from_db()
    assert (intent.state, intent.attempts) == ("succeeded", 2)
    assert {seen.key for seen in script.seen} == {intent.key}
    assert capsys.readouterr().out == "Sent 1 intents: 1 succeeded, 0 failed, 0 unknown.\n"


def test_the_celery_recipe(gateway: Any, transactional_db: None, monkeypatch: Any) -> None:
    """Enqueued after the commit, with the intent; a second delivery does nothing."""
    script = gateway(answer(201))
    given: dict[str, Any] = {}
    queued = []

    def shared_task(**options: Any) -> Any:
        given.update(options)

        def decorate(task: Any) -> Any:
            task.delay = queued.append
            return task

        return decorate

    shop(monkeypatch, "celery", shared_task=shared_task)
    names = example("@shared_task")

    names["place_order"]("tea")
    assert queued == [OutboundIntent.objects.get().pk]
    for _ in range(2):
        names["charge_order"](queued[0])

    assert len(script.seen) == 1
    assert OutcomeUnknown in given["autoretry_for"]


def test_the_stripe_recipe(order: Order, later: Any, monkeypatch: Any) -> None:
    """The intent's key is Stripe's; a declined card is a failure, a lost connection is not."""

    class CardError(Exception):
        pass

    calls = []

    def create(**options: Any) -> None:
        calls.append(options)
        raise TimeoutError if len(calls) == 1 else CardError

    payments = type("PaymentIntent", (), {"create": staticmethod(create)})
    shop(
        monkeypatch,
        "stripe",
        CardError=CardError,
        InvalidRequestError=KeyError,
        PaymentIntent=payments,
    )
    example('@sends("charge card"')
    intent = OutboundIntent.for_object(order, "charge card")
    states = []
    for _ in range(2):
        later(intent, AN_HOUR)
        call_command("retry_outbound_intents")
        intent.refresh_from_db()
        states.append(intent.state)
    assert states == ["unknown", "failed"]
    assert {call["idempotency_key"] for call in calls} == {intent.key}


def options_of(command: Any, name: str) -> set[str]:
    parser = command.create_parser("manage.py", name)
    usual = DjangoHelpFormatter.show_last | {"--help", "-h"}
    return set(parser._option_string_actions) - usual - {"-v"}


def test_every_option_of_the_command_is_documented_and_no_other() -> None:
    """The table is what the command takes."""
    name = "retry_outbound_intents"
    command = load_command_class("django_idempotency.contrib.outbound", name)
    documented = set(re.findall(r"^\| `(--[a-z-]+)` \|", PAGE, re.MULTILINE))
    assert documented == options_of(command, name)


def test_the_options_that_are_told_of_the_storm_exist() -> None:
    """And its table has the rows that are shown."""
    told = set(re.findall(r"--[a-z]+", section("See it")))
    assert {"--drop", "--double", "--unprotected"} <= told <= options_of(storm.Command(), "storm")


def test_every_state_is_documented() -> None:
    """One row each, two share one."""
    named = " ".join(rows(section("OutboundIntent")))
    assert [state for state in OutboundIntent.State.values if state not in named] == []
