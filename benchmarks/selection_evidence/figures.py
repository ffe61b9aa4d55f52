"""The page's figures: learned against lost, and differences by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.evidence.numbers import GRID_SEED
from benchmarks.selection_evidence.results import NAMES, Group, TaskResults
from knowtune.common.statistics import mean_interval

COLOURS = {
    "lora": "#444444",
    "random": "#e69f00",
    "magnitude": "#56b4e9",
    "fish": "#009e73",
    "ird": "#cc79a7",
    "fish-even": "#0072b2",
    "random-linear": "#d55e00",
    "lora-ird": "#bbbbbb",
}
MARKS = {
    "lora": "s",
    "random": "o",
    "magnitude": "v",
    "fish": "D",
    "ird": "^",
    "fish-even": "P",
    "random-linear": "X",
    "lora-ird": "p",
}
SHOWN = (("fish", "random"), ("ird", "random"), ("ird", "fish"), ("fish", "lora"), ("ird", "lora"))


def draw_plane(results: Sequence[TaskResults], path: Path) -> None:
    """Draw a panel per comparison: learned (up) against lost (right), with intervals and the grid's paths."""
    panels = [group for result in results for group in result.groups]
    columns = min(3, len(panels))
    figure, axes = make_panels(len(panels), columns, 4.0, 3.1)
    for ax, group in zip(axes, panels, strict=True):
        for arm in group.arms:
            _draw_arm(ax, group, arm)
        ax.set_title(group.title, fontsize=8)
        ax.set_xlabel(f"{group.lost} (less is better)", fontsize=8)
        ax.set_ylabel(group.learned[0], fontsize=8)
    add_legend(figure, axes)
    save(figure, path)


def _draw_arm(ax: Any, group: Group, arm: str) -> None:
    """Draw an arm's grid and its means."""
    style = {"color": COLOURS[arm], "marker": MARKS[arm]}
    names = (group.lost, group.learned[0])
    points = [tuple(record["metrics"][name] for name in names) for record in group.of(arm, GRID_SEED)]
    if points:
        ax.plot(*zip(*points, strict=True), **style, markersize=3, linewidth=0.7, alpha=0.45)
    lost, learned = (mean_interval(group.values(arm, name)) for name in names)
    ax.errorbar(
        lost["mean"], learned["mean"], xerr=lost["half_width"] or 0, yerr=learned["half_width"] or 0,
        **style, markersize=7, linewidth=1, capsize=2, label=NAMES[arm],
    )  # fmt: skip


def draw_differences(results: Sequence[TaskResults], path: Path) -> None:
    """Draw the intervals of differences by seed, better to the right, one panel for each pair of arms."""
    groups = [group for result in results for group in result.groups]
    names = [group.title for group in groups]
    kinds: tuple[tuple[str, int, Callable[[Group, str, str], dict[str, Any] | None]], ...] = (
        ("learns more", 1, lambda group, one, other: group.difference(one, other, group.learned[0])),
        ("loses less", -1, lambda group, one, other: group.difference(one, other, group.lost)),
        ("loses less\nat equal learning", -1, lambda group, one, other: group.difference_at_level(one, other)),
    )
    figure, axes = make_panels(len(SHOWN) * len(kinds), len(SHOWN), 2.7, 0.22 * len(groups) + 1.3)
    for row, (better, towards, find) in enumerate(kinds):
        for column, (one, other) in enumerate(SHOWN):
            ax = axes[row * len(SHOWN) + column]
            for height, group in zip(range(len(groups) - 1, -1, -1), groups, strict=True):
                difference = find(group, one, other)
                if difference is None:
                    continue
                mean, half = towards * difference["mean"], difference["half_width"]
                colour = "#009e73" if mean > half else "#d55e00" if mean < -half else "#888888"
                ax.errorbar(mean, height, xerr=half, fmt="o", color=colour, markersize=4, capsize=2)
            ax.axvline(0, color="black", linewidth=0.7)
            ax.set_yticks(range(len(names)), names[::-1] if column == 0 else [""] * len(names), fontsize=7)
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.set_title(f"{NAMES[one]} against {NAMES[other]}:\n{better} →", fontsize=8)
            ax.tick_params(axis="x", labelsize=7)
    save(figure, path)
