"""Whether size matters: ``python -m benchmarks.scale``, one database for each number of keys."""

from __future__ import annotations
