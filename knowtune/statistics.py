"""Mean and 95 % interval over seeds; shares as counts."""

from __future__ import annotations

import math
from collections.abc import Sequence


def share_of(share: float, total: int) -> int:
    """Return ceil(share x total), not one more where binary floating point puts 0.07 x 100 just above 7."""
    return math.ceil(round(share * total, 6))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, float | int | None]:
    """Return the mean and the half-width of Student's t interval.

    Returns:
        {"mean", "half_width", "n"}; half_width is None for a single value, which says nothing about the spread.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return {"mean": mean, "half_width": None, "n": 1}
    from scipy.stats import t

    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return {"mean": mean, "half_width": float(t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(variance / n), "n": n}
