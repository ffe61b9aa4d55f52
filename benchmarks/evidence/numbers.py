"""Numbers, written as a page shows them."""

from __future__ import annotations

import importlib.metadata
import platform

from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Metric
from knowtune.registry import member_class


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


def versions() -> str:
    """Name Python, libraries and machine."""
    names = ("torch", "transformers", "peft", "numpy", "scipy")
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {libraries}; CPU, float32, one thread a process."
