"""The page's figure: what each filter and weighting changes, against plain training by the same method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.beacons_evidence.arms import METHODS
from benchmarks.beacons_evidence.results import Group, arm_names
from benchmarks.evidence.differences import Difference
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.evidence.numbers import metric_of

COLOURS = {"lora": "#444444", "kasa": "#0072b2", "fish": "#009e73"}
MARKS = {"lora": "s", "kasa": "o", "fish": "D"}


def draw_changes(groups: Sequence[Group], kinds: Mapping[str, Callable[[Group, str], Difference]], path: Path) -> None:
    """Draw the intervals of differences by seed, better to the right: a row per kind, a column per task and noise.

    Args:
        groups: of arms.
        kinds: title of the row -> difference of an arm to plain training.
        path: of the SVG.
    """
    names, titles = arm_names()[::-1], list(dict.fromkeys(group.title for group in groups))
    figure, axes = make_panels(len(kinds) * len(titles), len(titles), 2.1, 0.2 * len(names) + 0.9)
    for row, (kind, find) in enumerate(kinds.items()):
        for column, title in enumerate(titles):
            ax = axes[row * len(titles) + column]
            for group in (group for group in groups if group.title == title):
                for arm in names:
                    difference = find(group, arm)
                    if difference.mean is None:
                        continue
                    towards = 100 if metric_of(difference.metric).higher_is_better else -100
                    height = names.index(arm) + 0.25 * (1 - list(METHODS).index(group.method))
                    ax.errorbar(
                        towards * difference.mean, height, xerr=100 * (difference.half_width or 0),
                        fmt=MARKS[group.method], color=COLOURS[group.method], label=group.method,
                        markersize=3, linewidth=0.8, capsize=1.5,
                    )  # fmt: skip
            ax.axvline(0, color="black", linewidth=0.7)
            ax.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=7)
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.set_title(f"{title}\n{kind}, points: better →", fontsize=7)
    add_legend(figure, axes, columns=3)
    save(figure, path)
