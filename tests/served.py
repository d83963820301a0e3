"""What a server under test runs: the usual views, which stop where a test wants them to.

A request with ``X-Hold: <port>`` connects to that port of 127.0.0.1 from inside its view, says
which process it is, and goes on when the test lets it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
_django = get_wsgi_application()

from tests.orders import views  # noqa: E402 - models need the settings

PATIENCE = 20  # seconds


def hold(request: Any, order: Any) -> None:
    if port := request.headers.get("X-Hold"):
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as line:
            line.sendall(b"%d\n" % os.getpid())
            line.recv(1)


views.BEHAVIOUR["after"] = hold


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Django, with the answering process named in each response."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *rest)

    return _django(environ, start)
