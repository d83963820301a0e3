"""What the benchmarks print."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence


def say(*lines: str) -> None:
    """Print at once, also into a file: some of these runs take half an hour."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of them lie; of none, not a number."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
