"""The example project behind something that loses keys: what a storm must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from example_project.wsgi import application as _shop


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    environ.pop("HTTP_IDEMPOTENCY_KEY", None)
    return _shop(environ, start_response)
