"""Mean and 95 % interval over seeds, as numbers and as text; shares as counts of entries, rows and groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def share_of(share: float, total: int) -> int:
    """Return ceil(share x total), not one more where binary floating point puts 0.07 x 100 just above 7."""
    return math.ceil(round(share * total, 6))


def apportion(num: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Divide `num` among groups in proportion to their sizes, by the largest remainder; ties go to the first."""
    total = sum(sizes.values())
    if total == 0:
        return dict.fromkeys(sizes, 0)
    shares = {name: num * size // total for name, size in sizes.items()}
    remainders = sorted(sizes, key=lambda name: -((num * sizes[name]) % total))  # sorted() keeps the order of ties
    for name in remainders[: num - sum(shares.values())]:
        shares[name] += 1
    return shares


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


def interval_text(interval: Mapping[str, Any], *, share: bool) -> str:
    """Write what `mean_interval` returns as mean ± half-width; a share in percent, a single value without interval.

    Where seeds are `without` a value, it says how many have one.
    """
    scale, digits = (100, 1) if share else (1, 3)
    text = f"{round(scale * interval['mean'], digits) + 0.0:.{digits}f}" + (" %" if share else "")  # never -0.000
    text = text if interval["half_width"] is None else f"{text} ± {scale * interval['half_width']:.{digits}f}"
    without = interval.get("without", 0)
    return f"{text} ({interval['n']} of {interval['n'] + without} seeds)" if without else text
