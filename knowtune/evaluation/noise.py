"""The noise floor of a column: the smallest difference between two models that is more than their seeds explain.

    floor = t(0.975, N - R) x s x sqrt(2 / n),    s^2 = sum of (n_r - 1) s_r^2 / (N - R)

over R runs of n_r seeds each, N in all, with the spread s_r of a run's seeds, pooled: one run's three seeds say little
of the spread, ten runs' thirty say more. n is the fewest seeds that a run has. A difference below it may be chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def seed_noise(intervals: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the noise floor of a column, or None where no run has two seeds.

    Args:
        intervals: of each run, as `knowtune.common.statistics.mean_interval` gives them.
    """
    spread = [interval for interval in intervals if interval["half_width"] is not None]
    if not spread:
        return None
    from scipy.stats import t

    free = sum(interval["n"] - 1 for interval in spread)
    squares = 0.0
    for interval in spread:
        n = interval["n"]
        deviation = interval["half_width"] * math.sqrt(n) / float(t.ppf(0.975, n - 1))
        squares += (n - 1) * deviation**2
    fewest = min(interval["n"] for interval in spread)
    return float(t.ppf(0.975, free)) * math.sqrt(squares / free * 2 / fewest)
