"""The one way from a protected view to the engine and back, whatever kind of view it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from django.http.response import HttpResponseBase

from . import engine
from .body import release
from .conf import Settings, get_settings
from .exceptions import ExecutionFailed, IdempotencyError, Undone
from .failures import BrokenTransaction, is_transient
from .hooks import guarded
from .incoming import Idempotency, keyed_request, sent_key
from .policy import Policy
from .protocol import Attempt, KeyedRequest
from .responses import Finish, HttpCodec, expose_expiry, mark, problem_response
from .store import Store

__all__ = ["View", "respond"]

logger = logging.getLogger("django_idempotency")

View = Callable[[], HttpResponseBase]
Answer = Callable[[Exception], HttpResponseBase | None]


def respond(
    request: Any,
    view: View,
    policy: Policy,
    *,
    name: str,
    finish: Finish | None = None,
    answer: Answer | None = None,
) -> HttpResponseBase:
    """Run ``view`` once for this request's key and answer every retry with its response.

    Args:
        request: Django's or DRF's; authenticated, permitted and throttled.
        view: takes nothing, returns the view's own response.
        policy: complete, see :func:`incoming.settings_policy`.
        name: of the view, for errors in what it does.
        finish: what the framework does to a response before it is rendered.
        answer: turns an exception of the view into a response, or returns None; used where
            ``STORE_RAISED_4XX`` or ``STORE_5XX`` keep what was raised.
    """
    settings = get_settings()
    sent: str | None = None
    keyed: KeyedRequest | None = None
    try:
        sent = sent_key(request, policy, settings)
        if sent is None:
            return view()
        policy = guarded(policy, name)
        keyed = keyed_request(request, sent, policy, settings)
        codec = HttpCodec(request, keyed, policy, settings, name=name, finish=finish)

        def execute(attempt: Attempt, store: Store) -> HttpResponseBase:
            getattr(request, "_request", request).idempotency = Idempotency(keyed, attempt)
            response = _run(view, store, settings, answer)
            expose_expiry(response, attempt, settings)
            return response

        waits = policy.in_flight == "wait" and policy.wait is not None
        response = engine.run(
            keyed,
            execute,
            codec,
            wait=policy.wait.total_seconds() if waits and policy.wait else 0.0,
            events=settings.AUDIT == "events",
        )
    except IdempotencyError as refusal:
        if keyed is None:  # refused before the engine, which logs all others
            logger.info(
                "idempotency outcome=refused code=%s key=- scope=- route=- method=%s status=%d "
                "attempt=0 ms=0",
                refusal.code,
                request.method,
                refusal.status,
            )
        response = problem_response(refusal, settings)
    except Undone as undone:
        if finish is not None:  # its framework answers what is raised, this too
            release(getattr(request, "_request", request))
            raise
        response = undone.response
    except BaseException:
        release(getattr(request, "_request", request))
        raise
    closers: list[Any] = cast("Any", response)._resource_closers
    closers.append(partial(release, getattr(request, "_request", request)))
    return response if sent is None else mark(response, sent, settings)


def _run(view: View, store: Store, settings: Settings, answer: Answer | None) -> HttpResponseBase:
    """The view; where the settings say so, with what it raises turned into a response."""
    if answer is None or not (settings.STORE_RAISED_4XX or settings.STORE_5XX):
        return view()
    try:
        with store.undoable():
            return view()
    except Exception as error:
        if isinstance(error, (Undone, BrokenTransaction)) or is_transient(error):
            raise  # no decision, or a failure that is not the view's answer: never stored
        response = answer(error)
        store.recover()  # DRF marks the transaction, though the savepoint has undone it all
        if response is None and settings.STORE_5XX:
            logger.exception("An idempotent view failed; its failure is stored.")
            response = problem_response(ExecutionFailed(), settings)
        if response is None or not _keeps(response.status_code, settings):
            raise
        return response


def _keeps(status: int, settings: Settings) -> bool:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return settings.STORE_5XX
    return settings.STORE_RAISED_4XX and status >= HTTPStatus.BAD_REQUEST
