"""What the clients need of an HTTP library, and which adapter has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from .operation import Timing
from .verdict import Answer, Cause

__all__ = ["Adapter", "adapter_for", "caused_by", "frozen_body"]


class Adapter(Protocol):
    """Requests and responses are the library's own objects. Async adapters return awaitables."""

    def freeze(self, method: str, url: str, headers: Mapping[str, str], options: Any) -> Any:
        """Build the request and read its body, so that all attempts send the same bytes."""

    def send(self, request: Any, timing: Timing) -> Any:
        """Make one attempt and read the answer whole. Follows no redirect."""

    def answer(self, response: Any) -> Answer:
        """What the judge needs of a response."""

    def cause(
        self, error: Exception, *, handled: BaseException | None = None
    ) -> Cause | Answer | None:
        """Why there is no answer, or the answer that was made an error; else ``None``.

        ``handled`` is what the caller was handling when the operation began.
        """

    def close(self) -> Any:
        """Close the library's client."""


_HOMES = {
    ("requests", "Session"): ("requests_adapter", "RequestsAdapter", False),
    ("httpx", "Client"): ("httpx_adapter", "HttpxAdapter", False),
    ("httpx", "AsyncClient"): ("httpx_adapter", "AsyncHttpxAdapter", True),
}


def adapter_for(http: object, *, is_async: bool) -> Adapter:
    """Wrap a client of requests or httpx, without importing the other library.

    Raises:
        TypeError: ``http`` is neither, or is sync where async is needed, or the reverse.
    """
    for cls in type(http).__mro__:
        home = _HOMES.get((cls.__module__.partition(".")[0], cls.__name__))
        if home is not None and home[2] is is_async:
            module = import_module(f".{home[0]}", __package__)
            adapter: Adapter = getattr(module, home[1])(http)
            return adapter
    wanted = "an httpx.AsyncClient" if is_async else "a requests.Session or an httpx.Client"
    msg = f"{'AsyncRetryingClient' if is_async else 'RetryingClient'} needs {wanted}, not {http!r}."
    libraries = ("httpx",) if is_async else ("httpx", "requests")
    if not any(find_spec(name) for name in libraries):
        msg += f" Install it first: pip install {' or '.join(libraries)}."
    raise TypeError(msg)


def caused_by(
    error: BaseException, *kinds: type[BaseException], handled: BaseException | None = None
) -> bool:
    """Whether one of ``kinds`` stands behind an error; the libraries wrap each other.

    Python makes ``handled``, which the caller was handling already, the context of all that is
    raised meanwhile. It says nothing about the attempt.
    """
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop()
        if isinstance(found, kinds):
            return True
        if isinstance(found, BaseException) and found not in seen:  # a chain may be a ring
            seen.append(found)
            # urllib3 keeps what it gave up for in an attribute, requests in its arguments.
            waiting += [found.__cause__, getattr(found, "reason", None), *found.args]
            if found.__context__ is not handled:
                waiting.append(found.__context__)
    return False


@contextmanager
def frozen_body(*refusals: type[Exception]) -> Iterator[None]:
    """Say the rule where a body cannot be turned into bytes; ``refusals`` are how that shows."""
    try:
        yield
    except refusals as error:
        msg = (
            "The body must be made of what the HTTP library can encode, because it is turned "
            f"into bytes once, before the first attempt: {error}"
        )
        raise TypeError(msg) from error
