"""Every refusal a client can meet: its status, its code and what to send next.

The texts never quote the key, the body or anything about another request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

__all__ = [
    "AnonymousRefused",
    "AttemptsExhausted",
    "ExecutionFailed",
    "IdempotencyError",
    "KeyExpired",
    "KeyInProgress",
    "KeyInvalid",
    "KeyMissing",
    "KeyReused",
    "KeyTooShort",
    "OutcomeUnknown",
    "ReplayForbidden",
    "ResultNotStored",
    "StoreUnavailable",
    "TooManyKeys",
    "Undone",
]


class IdempotencyError(Exception):
    """A keyed request that is refused; becomes an ``application/problem+json`` answer.

    ``slug`` ends the problem's ``type`` URI (RFC 9457) and, with underscores, its
    ``code``; both are stable. ``retry_after`` is in seconds, ``None`` = do not retry.
    """

    status: int = HTTPStatus.BAD_REQUEST
    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "Idempotency error"
    detail: str = ""
    retry_after: int | None = None

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        self.detail = detail or self.detail
        self.status = status or self.status
        self.headers: dict[str, str] = {}
        super().__init__(self.detail)

    @property
    def code(self) -> str:
        return "idempotency_" + self.slug.replace("-", "_")


class Undone(Exception):
    """Raise it to answer ``response`` and keep nothing: what was written is rolled back.

    For answers that are no decision, such as a form shown again with its mistakes: the key
    stays free, and the corrected request may use it. ``response`` is an ``HttpResponse`` or
    REST framework's ``Response``.

    Raises:
        TypeError: ``response`` is something else.
    """

    def __init__(self, response: Any) -> None:
        # By what it can do: this module knows no framework, and other libraries' responses,
        # which have a status code as well, are not meant.
        is_class = isinstance(response, type)
        if is_class or not (hasattr(response, "status_code") and hasattr(response, "has_header")):
            kind = f"the class {response.__name__}" if is_class else type(response).__name__
            msg = (
                f"Undone() takes the response that the client shall get, not {kind}: "
                "raise Undone(render(request, ...)), or any HttpResponse."
            )
            raise TypeError(msg)
        self.response = response
        self.status_code: int = response.status_code
        super().__init__(
            "Undone was raised in a view that is not protected, where nothing makes an answer of "
            "it. Put IdempotentMixin before the view class or @idempotent above the function; or "
            "return the response instead."
        )


class KeyMissing(IdempotencyError):
    slug = "key-missing"
    title = "Idempotency key missing"
    detail = (
        "This operation needs an idempotency key. Make a new UUID for each new "
        "operation, send it in {where}, and send the same one when you retry."
    )


class KeyInvalid(IdempotencyError):
    slug = "key-invalid"
    title = "Idempotency key invalid"
    detail = "Send one idempotency key: a UUID, alone or in double quotes."


class KeyTooShort(IdempotencyError):
    slug = "key-too-short"
    title = "Idempotency key too short"
    detail = (
        "Requests without credentials share one space of keys, so a key must be hard to "
        "guess: send at least {minimum} characters, best a random UUID."
    )


class AnonymousRefused(IdempotencyError):
    slug = "anonymous"
    title = "Idempotency keys need credentials"
    detail = "Sign in to use an idempotency key here, or send the request without one."


class TooManyKeys(IdempotencyError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-keys"
    title = "Too many idempotency keys"
    detail = (
        "You have more idempotency keys than this site keeps for one client. Nothing was carried "
        "out. Send the same request with the same key again when older keys have expired."
    )
    retry_after = 60


class KeyInProgress(IdempotencyError):
    status = HTTPStatus.CONFLICT
    slug = "in-progress"
    title = "Request in progress"
    detail = (
        "The first request with this key has not finished. Send the same request with the "
        "same key again after the time in Retry-After."
    )
    retry_after = 1


class KeyReused(IdempotencyError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "key-reused"
    title = "Idempotency key reused"
    detail = (
        "This key was already used for a different request. Send a new key for a new "
        "operation; to retry, send the original request unchanged."
    )


class KeyExpired(IdempotencyError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "key-expired"
    title = "Idempotency key expired"
    detail = (
        "This key is older than its retention, so its response is gone. Look up whether the "
        "operation took place; send a new key only if it did not."
    )


class AttemptsExhausted(IdempotencyError):
    status = HTTPStatus.CONFLICT
    slug = "attempts-exhausted"
    title = "Attempts exhausted"
    detail = (
        "This request was begun several times and its server died each time, so it is not begun "
        "now. Tell the operator, and send the same request with the same key again later."
    )
    retry_after = 60  # not final: a twin may have been given the key just now


class ResultNotStored(IdempotencyError):
    status = HTTPStatus.CONFLICT
    slug = "result-not-stored"
    title = "Result not stored"
    detail = (
        "This request was carried out, and its response could not be kept. It is not run "
        "again. Read the result from the resource itself."
    )


class ReplayForbidden(IdempotencyError):
    status = HTTPStatus.FORBIDDEN
    slug = "replay-forbidden"
    title = "Replay forbidden"
    detail = "You may no longer read the response of this request."


class ExecutionFailed(IdempotencyError):
    """What ``STORE_5XX`` keeps of an unhandled exception."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "execution-failed"
    title = "Execution failed"
    detail = "The operation failed and was rolled back. Send a new key to try it again."


class StoreUnavailable(IdempotencyError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "store-unavailable"
    title = "Try again"
    detail = (
        "The request was not carried out, because the database could not serve it. Nothing "
        "was kept. Send the same request with the same key again."
    )
    retry_after = 2


class OutcomeUnknown(IdempotencyError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "outcome-unknown"
    title = "Outcome unknown"
    detail = (
        "The connection to the database broke while the request was being committed: it may "
        "have taken place. Send the same request with the same key again to learn its outcome."
    )
    retry_after = 2
