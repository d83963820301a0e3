"""An attempt that can be left: blocking calls know no deadline of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

import stamina

from .operation import DeadlineReached

__all__ = ["within"]

R = TypeVar("R")


def within(seconds: float, call: Callable[[], R]) -> R:
    """``call()`` in a thread of its own, with the caller's context variables.

    A socket's time-out counts from one byte to the next, so a server that sends a header now
    and then is never too late; and looking up a name has no time-out at all. The thread that is
    left behind ends when its connection does. It is a daemon: no process waits for it.

    Where a site has switched stamina off, as tests do, the caller's own thread makes the call:
    their doubles of servers may look at its database connection.

    Raises:
        DeadlineReached: ``seconds`` are over.
    """
    if not stamina.is_active() or stamina.is_testing():
        return call()
    future: Future[R] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="idempotent attempt", daemon=True).start()
    if not wait([future], seconds).done:
        msg = "The answer had not arrived whole when the time was over"
        raise DeadlineReached(msg)
    return future.result()
