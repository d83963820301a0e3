"""What protection costs: ``python -m benchmarks``, on a private PostgreSQL with fsync."""

from __future__ import annotations
