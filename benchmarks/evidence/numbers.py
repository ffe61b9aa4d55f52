"""Metrics and their differences by seed, written as a page shows them."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from knowtune.common.statistics import mean_interval
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Metric
from knowtune.registry import member_class

GRID_SEED = 100  # of the trainings that learning rates are chosen by; no result has it
MIN_SEEDS = 3  # of an interval


def metric_of(name: str) -> type[Metric]:
    """Find a metric's class: its unit, its direction."""
    return member_class(METRICS, "metric", name)


def metric_heads(names: list[str] | tuple[str, ...]) -> list[str]:
    """Write metrics' names as heads of columns, each with the direction that is better."""
    return [f"{name} {'↑' if metric_of(name).higher_is_better else '↓'}" for name in names]


def format_metric(name: str, value: float, half_width: float | None, *, sign: bool = False) -> str:
    """Write a number with its interval: shares in percent, all else with three decimals."""
    scale, digits = (100, 1) if metric_of(name).unit == "share" else (1, 3)
    text = f"{round(value * scale, digits) + 0.0:{'+' if sign else ''}.{digits}f}"  # + 0.0: no minus before a zero
    return text if half_width is None else f"{text} ± {half_width * scale:.{digits}f}"


def difference_by_seed(
    one: Mapping[int, dict[str, Any]], other: Mapping[int, dict[str, Any]], metric: str
) -> dict[str, Any] | None:
    """Return mean and interval of the differences by seed; None with too few seeds in common.

    Args:
        one: seed -> record of a training.
        other: the same of the arm that it is held against.
        metric: whose differences.
    """
    seeds = sorted(set(one) & set(other))
    if len(seeds) < MIN_SEEDS:
        return None
    return mean_interval([one[seed]["metrics"][metric] - other[seed]["metrics"][metric] for seed in seeds])


def verdict(name: str, difference: Mapping[str, Any]) -> int:
    """Tell from an interval whether one is better (1), worse (-1), or neither is shown (0)."""
    mean, half = difference["mean"], difference["half_width"]
    if abs(mean) <= half:
        return 0
    return 1 if (mean > 0) == metric_of(name).higher_is_better else -1


def versions() -> str:
    """Name Python, libraries and machine."""
    names = ("torch", "transformers", "peft", "numpy", "scipy")
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {libraries}; CPU, float32, one thread a process."
