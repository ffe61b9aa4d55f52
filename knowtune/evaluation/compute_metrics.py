"""Compute the metrics of one model, and their means over seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from knowtune.common.statistics import mean_interval
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Judged, Metric
from knowtune.registry import member_class


def reads_answers(names: Sequence[str]) -> bool:
    """Tell whether one of the named metrics needs answers in words."""
    return any(member_class(METRICS, "metric", name).reads_answers for name in names)


def reads_whole_answers(names: Sequence[str]) -> bool:
    """Tell whether one of the named metrics needs answers that go on beyond the length of what is right."""
    return any(member_class(METRICS, "metric", name).reads_whole_answers for name in names)


def reads_base(names: Sequence[str]) -> set[str]:
    """Tell where the named metrics compare distributions with the base's: "texts", "prompts"."""
    return {where for name in names for where in member_class(METRICS, "metric", name).reads_base}


def compute_metrics(names: Sequence[str], judged: Judged) -> dict[str, float]:
    """Compute the named metrics; one that the data has nothing to measure on, or that is not finite, is left out."""
    values = {}
    for name in names:
        metric: Metric = member_class(METRICS, "metric", name)()
        value = metric.compute(judged)
        if value is not None and math.isfinite(value):
            values[name] = value
        elif value is not None:
            print(f"{name}: got {value}, which no table can hold; a dash stands for it", file=sys.stderr)
    return values


def over_seeds(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return, per metric, mean and 95 % interval over the seeds that have it, and how many seeds are without.

    Returns:
        Per metric that a seed has: see `mean_interval`; and `without`, where seeds are without it.
    """
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    summary: dict[str, Any] = {}
    for name in names:
        having = [values[name] for values in metrics.values() if name in values]
        without = len(metrics) - len(having)
        summary[name] = {**mean_interval(having), **({"without": without} if without else {})}
    return summary
