"""Schemathesis makes requests from a schema, valid ones and others; here they are judged.

Each is sent twice with its key, and the key once more with another body. What schemathesis
checks is whether an answer is one that the schema knows; what is counted is effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KEY, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
# The server in front of Django answers 501 to a coding that it does not know (RFC 9112, 6.1).
OF_THE_SERVER = "Transfer-Encoding"
FINAL = {201, 402}  # of the answers that the views under test return
PATIENCE = 20  # seconds


@dataclass
class Target:
    """An API under test: where it is, what its schema says, and what it has done so far."""

    url: str
    schema: dict[str, Any]
    effects: Callable[[], Any]
    headers: dict[str, str] = field(default_factory=dict)  # who asks
    statuses: Counter[str] = field(default_factory=Counter)

    def operations(self) -> list[Any]:
        loaded = schemathesis.openapi.from_dict(self.schema)
        return [result.ok() for result in loaded.get_all_operations()]


def examine(target: Target, operation: Any, chance: int, *, cases: int) -> None:
    """Raise what is wrong about any answer or any effect of ``cases`` generated requests."""
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    made = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
    mostly_not = st.sampled_from([*[False] * 9, True])
    session, found = requests.Session(), list[str]()

    @seed(chance)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    @given(case=made, fresh=st.one_of(st.none(), st.uuids()), stranger=mostly_not)
    def run(case: Any, fresh: Any, stranger: bool) -> None:
        case.headers.pop(OF_THE_SERVER, None)
        headers = {} if stranger else dict(target.headers)
        if fresh is not None:
            headers[KEY] = str(fresh)  # what is generated is often the same, and often wrong
        # Hypothesis sees a failure twice; the server, which remembers, would not fail again.
        if not found:
            found.extend(_judged(target, session, case, headers))
        if found:
            raise _Enough

    with session, suppress(_Enough):
        run()
    assert not found, "\n".join(found)


class _Enough(Exception):
    """Something was found, and no more is to be generated."""


def _judged(target: Target, session: Any, case: Any, headers: dict[str, str]) -> list[str]:
    try:
        found = list(_verdicts(target, session, case, headers))
    except FailureGroup as failures:
        return [str(failures)]
    return [*found, case.as_curl_command(headers)] if found else []


def _verdicts(target: Target, session: Any, case: Any, headers: dict[str, str]) -> Iterator[str]:
    def send() -> Any:
        return case.call(
            base_url=target.url,
            session=session,
            headers=headers,
            timeout=PATIENCE,
            allow_redirects=False,
        )

    before = target.effects()
    first = send()
    case.validate_response(first, checks=CHECKS)
    after = target.effects()
    target.statuses[f"{first.status_code}{' replayed' if is_replay(first) else ''}"] += 1
    done = first.status_code == 201 and not is_replay(first)
    if done == (before == after):
        yield f"{first.status_code}, and the effects went from {before} to {after}"
    if not first.request.headers.get(KEY):
        return
    again = send()
    case.validate_response(again, checks=CHECKS)
    if target.effects() != after:
        yield f"the second went from {after} to {target.effects()}"
    if first.status_code in FINAL and not is_replay(again):
        yield f"{first.status_code}, and then {again.status_code}, which is no replay"
    if is_replay(again):
        if (first.status_code, first.content) != (again.status_code, again.content):
            yield f"{first.status_code}, and then a replay that says {again.status_code}"
        yield from _reused(target, session, first.request)


def is_replay(response: Any) -> bool:
    return bool(response.headers.get(REPLAYED.lower()) == ["true"])


def _reused(target: Target, session: Any, sent: Any) -> Iterator[str]:
    """The key with another body."""
    before = target.effects()
    headers = {name: sent.headers[name] for name in (KEY, "Authorization") if name in sent.headers}
    other = session.post(sent.url, json={"an": "other"}, headers=headers, timeout=PATIENCE)
    if other.status_code != 422 or other.json()["code"] != "idempotency_key_reused":
        yield f"another body with the same key: {other.status_code}"
    if target.effects() != before:
        yield f"another body with the same key: from {before} to {target.effects()}"
