"""The page's figures: learned against lost, and differences by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import GRID_SEED, MIN_SEEDS, Comparison
from benchmarks.evidence.differences import Difference
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.selection_evidence.arms import EVERY, NAMES
from benchmarks.selection_evidence.results import TaskResults
from knowtune.common.statistics import mean_interval

STYLES = {  # arm -> colour, mark
    "lora": ("#444444", "s"),
    "random": ("#e69f00", "o"),
    "magnitude": ("#56b4e9", "v"),
    "fish": ("#009e73", "D"),
    "ird": ("#cc79a7", "^"),
    "fish-even": ("#0072b2", "P"),
    "random-linear": ("#d55e00", "X"),
    "fish-linear-even": ("#117733", "d"),
    "random-linear-even": ("#882255", "*"),
    "lora-ird": ("#bbbbbb", "p"),
    "lora-same": ("#aa4499", "<"),
    "lora-ird-even": ("#999933", ">"),
}
SHOWN = (("fish", "random"), ("fish", "random-linear"), ("ird", "random"), ("fish", "lora"), ("ird", "lora"))


def draw_plane(results: Sequence[TaskResults], path: Path) -> None:
    """Draw a panel per comparison: learned (up) against lost (right), each arm a curve over its rates."""
    panels = [group.comparison for result in results for group in result.groups]
    figure, axes = make_panels(len(panels), min(3, len(panels)), 4.0, 3.1)
    for ax, comparison in zip(axes, panels, strict=True):
        for arm in EVERY:
            _draw_arm(ax, comparison, arm)
        ax.set_title(comparison.name, fontsize=8)
        ax.set_xlabel(f"{comparison.lost} (less is better)", fontsize=8)
        ax.set_ylabel(comparison.learned, fontsize=8)
    add_legend(figure, axes, columns=6)
    save(figure, path)


def _draw_arm(ax: Any, comparison: Comparison, arm: str) -> None:
    """Draw an arm's means over seeds, and small where a rate has the grid's seed alone."""
    colour, mark = STYLES[arm]
    names = (comparison.lost, comparison.learned)
    seeds, tried = comparison.seeds(arm), comparison.trainings.get(arm, {}).get(GRID_SEED, {})
    path: list[tuple[Any, ...]] = []
    for rate in sorted({*tried, *(rate for rates in seeds.values() for rate in rates)}):
        own = [rates[rate] for rates in seeds.values() if rate in rates]
        if len(own) >= MIN_SEEDS:
            lost, learned = (mean_interval([metrics[name] for metrics in own]) for name in names)
            ax.errorbar(
                lost["mean"], learned["mean"], xerr=lost["half_width"], yerr=learned["half_width"],
                color=colour, marker=mark, markersize=6, linewidth=1, capsize=2, label=NAMES[arm],
            )  # fmt: skip
            path.append((lost["mean"], learned["mean"]))
        elif rate in tried:
            path.append(tuple(tried[rate][name] for name in names))
    if path:
        ax.plot(*zip(*path, strict=True), color=colour, marker=mark, markersize=2, linewidth=0.7, alpha=0.45)


def draw_differences(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the intervals of differences by seed, better to the right, one panel for each pair of arms."""
    names = [comparison.name for comparison in comparisons]
    kinds: tuple[tuple[str, int, Callable[[Comparison, str, str], Difference]], ...] = (
        ("learns more", 1, lambda arms, one, other: arms.difference(one, other, arms.learned)),
        ("loses less\nat equal learning", -1, lambda arms, one, other: arms.at_equal_learning(one, other)),
    )
    figure, axes = make_panels(len(SHOWN) * len(kinds), len(SHOWN), 2.7, 0.22 * len(names) + 1.3)
    for row, (better, towards, find) in enumerate(kinds):
        for column, (one, other) in enumerate(SHOWN):
            ax = axes[row * len(SHOWN) + column]
            for height, comparison in zip(range(len(names) - 1, -1, -1), comparisons, strict=True):
                difference = find(comparison, one, other)
                if difference.mean is None:
                    continue
                colour = {1: "#009e73", -1: "#d55e00", 0: "#888888"}[difference.verdict]
                ax.errorbar(
                    towards * difference.mean, height, xerr=difference.half_width,
                    fmt="o", color=colour, markersize=4, capsize=2,
                )  # fmt: skip
            ax.axvline(0, color="black", linewidth=0.7)
            ax.set_yticks(range(len(names)), names[::-1] if column == 0 else [""] * len(names), fontsize=7)
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.set_title(f"{NAMES[one]} against {NAMES[other]}:\n{better} →", fontsize=8)
            ax.locator_params(axis="x", nbins=4)
    save(figure, path)
