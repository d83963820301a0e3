"""An HTTP client that is terse about keys."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.test import Client

ROWS = {"sku": "tea", "qty": 1}


def new_key() -> str:
    return str(uuid.uuid4())


class Sender:
    """``send("/apiview/", key=K)`` posts one order and returns the response."""

    def __init__(self, **defaults: Any) -> None:
        self.client = Client(raise_request_exception=False, **defaults)

    def __call__(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        method: str = "POST",
        content_type: str = "application/json",
        **headers: str,
    ) -> Any:
        if key is not None:
            headers["Idempotency-Key"] = key
        data = ROWS if body is None else body
        if not isinstance(data, (bytes, str)):
            data = json.dumps(data)
        return self.client.generic(
            method,
            path,
            data,
            content_type=content_type,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
