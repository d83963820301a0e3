"""The engine on a clock of its own: whatever a server does, the promises hold."""

from __future__ import annotations

import pickle
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.client import OutcomeUnknown, RetryBudget, RetryPolicy
from django_idempotency.client.operation import Operation, checked_key
from django_idempotency.client.verdict import Answer, Cause

START = 1_000_000.0


class Dropped(Exception):
    """The connection broke."""


class Bug(Exception):
    """Has nothing to do with a connection."""


class Impostor(Exception):
    """Nothing was sent, and nothing will be."""


@dataclass
class World:
    """A clock that only moves when somebody waits."""

    now: float = START
    pauses: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)  # when each began

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Step:
    """What a server does with one attempt."""

    status: int | None = 503  # None: no answer
    takes: float = 0.01  # seconds
    retry_after: int | None = None


def causes(error: Exception) -> Cause | None:
    return {Bug: None, Impostor: Cause.REFUSED}.get(type(error), Cause.LOST)


def run(
    world: World,
    steps: list[Step],
    policy: RetryPolicy,
    *,
    budget: RetryBudget | None = None,
    **options: Any,
) -> int:
    """The status of the final answer. The last step is repeated."""
    operation = Operation(
        key="k", policy=policy, budget=budget, cause=causes, clock=lambda: world.now, **options
    )
    with (
        patch("tenacity.nap.time", SimpleNamespace(sleep=world.sleep)),
        operation.outcome(),
    ):
        for attempt in operation.retries():
            with attempt:
                limits = operation.begin().timeouts()
                step = steps[min(len(world.attempts), len(steps) - 1)]
                world.attempts.append(world.now)
                world.now += min(step.takes, limits.total)
                if step.takes > limits.total or step.status is None:
                    raise Dropped
                headers = {} if step.retry_after is None else {"Retry-After": str(step.retry_after)}
                return operation.settle(step.status, Answer(step.status, headers))
    raise AssertionError


steps = st.lists(
    st.builds(
        Step,
        status=st.sampled_from([None, 201, 402, 409, 422, 429, 500, 503]),
        takes=st.floats(0, 20),
        retry_after=st.none() | st.integers(0, 40),
    ),
    min_size=1,
    max_size=8,
)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 8),
    base=st.floats(0.01, 2),
    cap=st.floats(2, 20),
    deadline=st.floats(0.1, 60),
    connect_timeout=st.floats(0.1, 5),
    timeout=st.floats(0.1, 20),
)


@given(steps, policies)
def test_no_server_makes_us_break_a_promise(steps: list[Step], policy: RetryPolicy) -> None:
    """Deadline, attempts, Retry-After, the bounds of jitter: all of them, always."""
    world = World()
    with suppress(OutcomeUnknown):
        run(world, steps, policy)

    assert world.now <= START + policy.deadline + 1e-6
    assert all(begun < START + policy.deadline for begun in world.attempts)
    assert len(world.attempts) <= policy.attempts
    assert len(world.pauses) == len(world.attempts) - 1  # nobody waits only to give up
    for number, pause in enumerate(world.pauses):
        told = steps[min(number, len(steps) - 1)]
        answered = told.status is not None and told.takes <= policy.connect_timeout + policy.timeout
        at_least = (told.retry_after or 0) if answered else 0
        left = START + policy.deadline - world.attempts[number]
        if told.takes <= left:  # else the answer came too late to ask for anything
            assert pause >= at_least
        assert pause <= max(min(policy.cap, policy.base * 2**number), 1.1 * at_least) + 1e-9


def test_the_classic_staircase() -> None:
    """The bounds of the pauses are 1, 2, 4 and 8 seconds; then it gives up."""
    world = World()
    with pytest.raises(OutcomeUnknown, match="no more than 5"):
        run(world, [Step()], RetryPolicy(base=1), rand=lambda: 1.0)
    assert world.pauses == [1, 2, 4, 8]


def test_a_wait_longer_than_the_deadline_is_not_begun() -> None:
    """Retrying early would be rude, waiting would be useless."""
    world = World()
    with pytest.raises(OutcomeUnknown, match="deadline of 30 s") as caught:
        run(world, [Step(retry_after=31)], RetryPolicy())
    assert (caught.value.attempts, world.pauses) == (1, [])


def test_an_attempt_gets_no_more_than_what_is_left() -> None:
    """The last one is cut short."""
    world = World()
    with pytest.raises(OutcomeUnknown):
        run(world, [Step(takes=60)], RetryPolicy(deadline=25), rand=lambda: 0.0)
    assert world.attempts == [START, START + 13]  # connect 3 + read 10
    assert world.now == START + 25


def test_a_machine_that_oversleeps_makes_no_late_attempt() -> None:
    """The scheduler may take a second; the deadline stays."""
    world = World()
    world.sleep = lambda seconds: setattr(world, "now", world.now + 40)  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown, match=r"answered 503.*deadline of 30 s") as caught:
        run(world, [Step()], RetryPolicy())
    assert caught.value.attempts == len(world.attempts) == 1


def test_the_budget_stops_retries_and_says_so() -> None:
    """Ten operations may cause one retry."""
    budget = RetryBudget(0.1, burst=1)
    reasons = []
    for _ in range(10):
        with pytest.raises(OutcomeUnknown) as caught:
            run(World(), [Step()], RetryPolicy(attempts=2), budget=budget)
        reasons.append((caught.value.attempts, caught.value.reason))
    assert reasons[0] == (2, "the policy allows no more than 2")
    assert set(reasons[1:9]) == {(1, "the retry budget is used up")}


def test_doubt_is_remembered() -> None:
    """The answer to the first attempt was lost, the second is refused at the door."""
    world = World()
    with pytest.raises(OutcomeUnknown) as caught:
        run(world, [Step(None), Step(401)], RetryPolicy())
    assert caught.value.may_have_happened
    assert run(World(), [Step(429), Step(401)], RetryPolicy()) == 401


def test_what_is_certain_and_incurable_is_raised_as_it_is() -> None:
    """Unless an earlier attempt left a doubt. A bug is never certain: a hook may have it."""

    def fail(times: int, last: type[Exception]) -> None:
        operation = Operation(key="k", policy=RetryPolicy(), budget=None, cause=causes)
        errors: list[Exception] = [Dropped() for _ in range(times)]
        with (
            patch("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None)),
            operation.outcome(),
        ):
            for attempt in operation.retries():
                with attempt:
                    operation.begin()
                    raise errors.pop() if errors else last

    with pytest.raises(Impostor):
        fail(0, Impostor)
    for times, last in ((1, Impostor), (0, Bug), (1, Bug)):
        with pytest.raises(OutcomeUnknown, match="a retry would not cure") as caught:
            fail(times, last)
        assert isinstance(caught.value.__cause__, last)
        assert caught.value.may_have_happened
        assert caught.value.attempts == times + 1


def test_interrupts_pass_through() -> None:
    """Ctrl-C is not retried and not renamed."""
    operation = Operation(key="k", policy=RetryPolicy(), budget=None, cause=causes)

    def interrupted() -> None:
        for attempt in operation.retries():
            with attempt:
                operation.begin()
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), operation.outcome():
        interrupted()
    assert operation.attempts == 1


def test_it_stays_honest_where_a_site_has_switched_stamina_off() -> None:
    """One attempt, and a lost answer is unknown all the same."""
    stamina.set_active(False)
    try:
        world = World()
        with pytest.raises(OutcomeUnknown) as caught:
            run(world, [Step(None)], RetryPolicy())
    finally:
        stamina.set_active(True)
    assert (len(world.attempts), caught.value.may_have_happened) == (1, True)
    assert "switched off" in caught.value.reason


def test_outcome_unknown_survives_a_task_queue() -> None:
    """Celery pickles it; the key must not get lost."""
    with pytest.raises(OutcomeUnknown) as caught:
        run(World(), [Step()], RetryPolicy(attempts=1))
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes

    assert str(copy) == str(caught.value)
    assert (copy.key, copy.attempts, copy.last_error) == ("k", 1, "answered 503")
    assert copy.may_have_happened


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ", "a\nb", "a\x00", " a", "a ", " "])
def test_a_key_must_fit_into_a_header(key: str) -> None:
    """Refused before anything is sent. Spaces around it would get lost on the way."""
    with pytest.raises(ValueError, match="1 to 255 printable ASCII"):
        checked_key(key)


@pytest.mark.parametrize("key", [uuid.uuid4(), 17, b"key", ["key"]])
def test_a_key_is_a_string(key: Any) -> None:
    """A UUID is the usual slip; the message says what to write."""
    with pytest.raises(TypeError, match=r"must be a str, not \w+: give str\(key\)"):
        checked_key(key)
