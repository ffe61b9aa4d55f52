"""The page's figure: learned against forgotten, each arm a curve over its rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import MIN_SEEDS, Comparison
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.preserve_evidence.arms import METHODS
from benchmarks.preserve_evidence.results import LEARNED, LOST, TaskResults
from knowtune.common.statistics import mean_interval

COLOURS = ("#444444", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#882255", "#117733", "#999933")
MARKS = "sovD^PX*dp"


def draw_frontier(results: Sequence[TaskResults], path: Path, methods: Iterable[str] = METHODS) -> None:
    """Draw a panel per task and method: forgotten (right) against generalisation (up), means over seeds."""
    panels = [(result, method) for result in results for method in methods if of_method(result, method)]
    figure, axes = make_panels(len(panels), min(3, len(panels)), 3.9, 3.2)
    names = list(dict.fromkeys(arm.partition(": ")[2] for panel in panels for arm in of_method(*panel)))
    for ax, (result, method) in zip(axes, panels, strict=True):
        for arm in of_method(result, method):
            parts = arm.partition(": ")[2]
            draw_arm(ax, result.comparison, arm, parts, names.index(parts))
        ax.set_title(f"{result.name}, {method}", fontsize=8)
        ax.set_xlabel(f"{LOST} (less is better)", fontsize=8)
        ax.set_ylabel(LEARNED, fontsize=8)
    add_legend(figure, axes, columns=4)
    save(figure, path)


def of_method(result: TaskResults, method: str) -> list[str]:
    """List the finished arms of a method."""
    return [arm for arm in result.arms if arm.startswith(f"{method}: ")]


def draw_arm(ax: Any, comparison: Comparison, arm: str, label: str, number: int) -> None:
    """Draw an arm's means over seeds, rate after rate; number gives colour and mark."""
    seeds = comparison.seeds(arm)
    points = []
    for rate in sorted({rate for rates in seeds.values() for rate in rates}):
        own = [rates[rate] for rates in seeds.values() if rate in rates]
        if len(own) >= MIN_SEEDS:
            points.append(
                [mean_interval([metrics[name] for metrics in own]) for name in (comparison.lost, comparison.learned)]
            )
    lost, learned = zip(*points, strict=True)
    style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[(number // 3 + number) % len(MARKS)]}
    ax.errorbar(
        [each["mean"] for each in lost], [each["mean"] for each in learned],
        xerr=[each["half_width"] for each in lost], yerr=[each["half_width"] for each in learned],
        markersize=4, linewidth=0.8, capsize=1.5, label=label, **style,
    )  # fmt: skip
