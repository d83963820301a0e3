"""The judge: what an answer, or the lack of one, says about the operation. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .retry_after import retry_after

__all__ = [
    *("Answer", "Cause", "Final", "Retry", "Unknown", "Verdict"),
    *("BODY_DECIDES", "judge", "judge_lost"),
]

_REFUSED = frozenset({408, 425, 429})  # refused unseen: this attempt had no effect
_RETRIED = _REFUSED | {500, 502, 503, 504}
_IN_FLIGHT = frozenset({409, 423})  # if, and only if, the answer says so
_IN_FLIGHT_PROBLEMS = frozenset(
    {
        "in-progress",  # ours
        "key-in-use",  # Stripe's idempotency_key_in_use
        "704",  # Adyen's errorCode
    }
)
# Gateways, routers and login checks give these before anyone looks at the key. They refuse
# this attempt and say nothing about an earlier one whose answer was lost.
_BEFORE_THE_KEY = frozenset(
    {401, 403, 404, 405, 406, 407, 411, 413, 414, 415, 417, 421, 426, 428, 431, 451}
)
# So do these, which refuse the key before they look for it. What holds a reused key may be an
# earlier attempt of ours, with a body that has changed since.
_OF_THIS_ATTEMPT = frozenset(
    {"key-reused", "key-missing", "key-invalid", "key-too-short", "anonymous"}
)
# 4xx, and no refusals: the operation took place, or may have, and its result is not told. Of a
# request that was carried out it may be a success or a 402, so it counts as neither.
_WITHHELD = frozenset({"outcome-unknown", "key-expired", "result-not-stored", "replay-forbidden"})
BODY_DECIDES = frozenset({403, 409, 422, 423})  # what these mean depends on the problem
_LARGEST_PROBLEM = 64 * 1024  # bytes; longer bodies are no error messages


class Cause(Enum):
    """Why there is no answer."""

    NOT_SENT = "not sent"  # no connection was made
    LOST = "lost"  # the request may have arrived
    REFUSED = "refused"  # nothing was sent, and no retry would change that


@dataclass(frozen=True, slots=True)
class Answer:
    """What the judge needs of a response."""

    status: int
    headers: Mapping[str, str]  # that ignores case
    body: bytes = b""

    @property
    def is_replay(self) -> bool:
        return self.headers.get("Idempotent-Replayed", "").strip().lower() == "true"

    @property
    def problem(self) -> str:
        """The slug of a problem+json ``type`` or of an error ``code``; "" if there is none."""
        content = _json_object(self.body)
        error = content.get("error")
        inner = error if isinstance(error, dict) else {}
        for name in (content.get("type"), content.get("code"), inner.get("code")):
            if isinstance(name, str) and name not in {"", "about:blank"}:
                slug = name.rstrip("/").rpartition("/")[2].removeprefix("idempotency_")
                return slug.replace("_", "-")
        return str(content.get("errorCode", ""))


@dataclass(frozen=True, slots=True)
class Final:
    """The answer tells what became of the operation, good or bad."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, after ``at_least`` seconds. ``doubt``: this attempt may have had its effect."""

    at_least: float = 0.0
    doubt: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer tells nothing, and another attempt would not tell more."""


Verdict = Final | Retry | Unknown


def judge(answer: Answer, *, doubt: bool = False) -> Verdict:
    """Decide what an answer means.

    Args:
        answer: the server's.
        doubt: an earlier attempt with this key may have had its effect.
    """
    status = answer.status
    if status < 400:
        # requests takes 103 Early Hints for the answer, and never sees the one that follows.
        return Final() if status >= 200 else Unknown()
    problem = answer.problem
    if answer.is_replay:
        # A stored 500 comes back for ever. Ours says that it was rolled back; others, such
        # as Stripe's, mean "we do not know either".
        return Final() if status < 500 or problem == "execution-failed" else Unknown()
    if _asks_for_retry(answer, problem):
        return Retry(retry_after(answer.headers) or 0.0, doubt=status not in _REFUSED)
    if status >= 500 or problem in _WITHHELD:
        return Unknown()
    return Unknown() if doubt and not _settles_doubt(answer, problem) else Final()


def judge_lost(cause: Cause | None, *, doubt: bool = False) -> Verdict:
    """Decide what an exception means. ``None``: some error, at a point that nobody knows.

    That may be a bug in a hook which ran when the answer was there, so it is no failure.
    """
    if cause is None:
        return Unknown()
    if cause is Cause.REFUSED:
        return Unknown() if doubt else Final()
    return Retry(doubt=cause is Cause.LOST)


def _asks_for_retry(answer: Answer, problem: str) -> bool:
    wish = answer.headers.get("Stripe-Should-Retry", answer.headers.get("transient-error", ""))
    if wish in {"true", "false"}:
        return wish == "true"
    if answer.status in _IN_FLIGHT:
        return problem in _IN_FLIGHT_PROBLEMS or "Retry-After" in answer.headers
    return answer.status in _RETRIED


def _settles_doubt(answer: Answer, problem: str) -> bool:
    """Whether a refusal was given by someone who knows what became of earlier attempts."""
    if answer.status in _BEFORE_THE_KEY or problem in _OF_THIS_ATTEMPT:
        return False
    # A proxy gives a 400, too, for a cookie that has grown too long. It names no problem, and
    # does not echo the key, as this library and Stripe do.
    return answer.status != 400 or problem != "" or "Idempotency-Key" in answer.headers


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.startswith(b"{") or len(body) > _LARGEST_PROBLEM:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
