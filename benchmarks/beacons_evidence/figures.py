"""The page's figure: what each filter and weighting changes, against plain training by the same method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.beacons_evidence.arms import METHODS, PLAIN, Arm, arms
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.evidence.numbers import metric_of

COLOURS = {"lora": "#444444", "kasa": "#0072b2", "fish": "#009e73"}
MARKS = {"lora": "s", "kasa": "o", "fish": "D"}


def draw_changes(
    changes: Mapping[str, Mapping[Arm, Mapping[str, dict[str, Any]]]], metrics: tuple[str, ...], path: Path
) -> None:
    """Draw the intervals of differences by seed, better to the right: a row per metric, a column per task and rate.

    Args:
        changes: title of the column -> arm -> metric -> mean and half width of the differences.
        metrics: the rows.
        path: of the SVG.
    """
    names = list(dict.fromkeys(arm.name for arm in arms() if (arm.filter, arm.weighting) != PLAIN))[::-1]
    figure, axes = make_panels(len(metrics) * len(changes), len(changes), 2.1, 0.2 * len(names) + 0.9)
    for row, metric in enumerate(metrics):
        towards = 100 if metric_of(metric).higher_is_better else -100
        for column, (title, by_arm) in enumerate(changes.items()):
            ax = axes[row * len(changes) + column]
            for arm, difference in by_arm.items():
                height = names.index(arm.name) + 0.25 * (1 - list(METHODS).index(arm.method))
                ax.errorbar(
                    towards * difference[metric]["mean"], height, xerr=100 * difference[metric]["half_width"],
                    fmt=MARKS[arm.method], color=COLOURS[arm.method], label=arm.method,
                    markersize=3, linewidth=0.8, capsize=1.5,
                )  # fmt: skip
            ax.axvline(0, color="black", linewidth=0.7)
            ax.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=7)
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.set_title(f"{title}\n{metric}, points: better →", fontsize=7)
    add_legend(figure, axes, columns=3)
    save(figure, path)
