"""What trained gates let through, as a picture: over the dimensions of a state, and token by token."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.imsm_evidence.bench import QUANTILES
from benchmarks.preserve_evidence.results import TaskResults

COLOURS = {"new": "#d55e00", "known": "#0072b2", "text": "#444444"}


def gates_of(result: TaskResults, arm: str) -> list[dict[str, Any]]:
    """List the records of an arm's seeds at its chosen rate that have read a gate."""
    rate = result.comparison.rate(arm)
    return [
        piece
        for piece in result.trainings
        if piece["arm"] == arm and piece["learning_rate"] == rate and piece["seed"] != GRID_SEED and "gates" in piece
    ]


def woven_arms(results: Sequence[TaskResults]) -> Iterator[tuple[TaskResults, str]]:
    """Yield the finished arms whose gates were read, with their tasks."""
    for result in results:
        yield from ((result, arm) for arm in result.arms if gates_of(result, arm))


def draw_gates(results: Sequence[TaskResults], arms: Sequence[str], path: Path) -> None:
    """Draw two panels for each of these arms: the gate by quantiles of dimensions, and by token.

    Args:
        results: of the tasks.
        arms: names, METHOD: PARTS; those that no task has finished are left out.
        path: of the SVG.
    """
    drawn = [(result, arm) for result, arm in woven_arms(results) if arm in arms]
    figure, axes = make_panels(2 * len(drawn), 2, 4.6, 2.6)
    for number, (result, arm) in enumerate(drawn):
        by_dimension, by_token = axes[2 * number : 2 * number + 2]
        records = [piece["gates"] for piece in gates_of(result, arm)]
        for kind, colour in COLOURS.items():
            own = [record[kind] for record in records]
            means = [statistics.fmean(values) for values in zip(*(each["quantiles"] for each in own), strict=True)]
            by_dimension.plot([100 * at for at in QUANTILES], means, color=colour, label=kind)
            if kind != "text":  # a text has no answer to count from
                tokens = _by_token([each["tokens"] for each in own])
                by_token.plot(list(tokens), list(tokens.values()), color=colour, marker="o", markersize=3)
        for ax, label in ((by_dimension, "quantile over dimensions, %"), (by_token, "token, 0: the answer's first")):
            ax.set_title(f"{result.name}, {arm}", fontsize=8)
            ax.set_xlabel(label, fontsize=8)
            ax.set_ylabel("gate (1: base alone)", fontsize=8)
            ax.set_ylim(0, 1)
    add_legend(figure, axes)
    save(figure, path)


def _by_token(records: Sequence[Mapping[str, float]]) -> dict[int, float]:
    """Take means over seeds, of the tokens that all of them have."""
    shared = set.intersection(*(set(record) for record in records))
    return {at: statistics.fmean(record[str(at)] for record in records) for at in sorted(map(int, shared))}
