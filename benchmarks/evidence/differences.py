"""A difference of two arms, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from benchmarks.evidence.numbers import metric_of


class Lack(Enum):
    """Why there is no difference, as counts write it."""

    TRAININGS = "not trained"
    LEVEL = "without a common level"
    RATE = "without a rate"


@dataclass(frozen=True)
class Difference:
    """A difference of two arms by seed, or why there is none.

    Args:
        metric: whose.
        seeds: that it is over.
        mean: of the differences; None where there is none.
        half_width: of the 95 % interval.
        lacks: what there would have to be; empty where there is a difference.
        why: of which kind that is.
        levels: of learning, mean over seeds of the lowest and the highest at which curves were compared.
    """

    metric: str
    seeds: tuple[int, ...] = ()
    mean: float | None = None
    half_width: float | None = None
    lacks: str = ""
    why: Lack = Lack.TRAININGS
    levels: tuple[float, float] | None = None

    @property
    def verdict(self) -> int:
        """Tell by the interval whether the one arm is better (1), worse (-1), or neither is shown (0)."""
        if self.mean is None or self.half_width is None or abs(self.mean) <= self.half_width:
            return 0
        return 1 if (self.mean > 0) == metric_of(self.metric).higher_is_better else -1
