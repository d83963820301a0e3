"""django-ninja: what ``@decorate_view(idempotent)`` needs to know of an operation.

``decorate_view`` wraps the whole of ``Operation.run``, authentication and error handling
included. Here the checks go first, so that a replay never reaches a stranger, and what the
operation raises is undone, although ninja has already made a response of it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction

from .exceptions import Undone

__all__ = ["Operation", "as_operation"]


class Operation:
    """A bound ``ninja.operation.Operation.run``, taken apart."""

    def __init__(self, run: Any) -> None:
        self.operation = run.__self__
        self.check: Callable[[Any], Any] = self.operation._run_checks
        self.run = self._arun if iscoroutinefunction(run.__func__) else self._run

    def _unchecked(self, raised: list[Exception], check: Any) -> Any:
        """A copy whose checks have passed and that remembers what its view raised."""
        operation = copy.copy(self.operation)
        operation._run_checks = check
        operation.view_func = _telling(operation.view_func, raised)
        return operation

    def _run(self, request: Any, **kwargs: Any) -> Any:
        raised: list[Exception] = []
        operation = self._unchecked(raised, lambda request: None)
        return _settled(type(operation).run(operation, request, **kwargs), raised)

    async def _arun(self, request: Any, **kwargs: Any) -> Any:
        async def passed(request: Any) -> None:
            return None

        raised: list[Exception] = []
        operation = self._unchecked(raised, passed)
        return _settled(await type(operation).run(operation, request, **kwargs), raised)


def as_operation(view: Any) -> Operation | None:
    """The ninja operation behind ``view``, None if it is something else."""
    owner = getattr(view, "__self__", None)
    is_ninja = inspect.ismethod(view) and hasattr(owner, "view_func")
    return Operation(view) if is_ninja and hasattr(owner, "_run_checks") else None


def _settled(response: Any, raised: list[Exception]) -> Any:
    if raised:
        raise Undone(response) from raised[0]
    return response


def _telling(view: Any, raised: list[Exception]) -> Any:
    @wraps(view)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except Exception as error:
            raised.append(error)
            raise

    @wraps(view)
    async def atold(*args: Any, **kwargs: Any) -> Any:
        try:
            return await view(*args, **kwargs)
        except Exception as error:
            raised.append(error)
            raise

    return atold if iscoroutinefunction(view) else told
