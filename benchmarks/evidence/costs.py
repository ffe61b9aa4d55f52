"""Claims on what a training costs: ratios of two arms by seed, each of trainings on the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.evidence.claims import Tally
from benchmarks.evidence.comparisons import MIN_SEEDS
from benchmarks.evidence.tables import BREAK, Pairs
from knowtune.common.statistics import mean_interval

Pieces = Sequence[Mapping[str, Any]]  # trainings: arm, seed, machine and costs of each


def ratios(trainings: Pieces, one: str, other: str, key: str) -> list[float]:
    """Give the ratio of two arms' costs, of each seed and machine that both were trained with.

    Args:
        trainings: of one task.
        one: an arm.
        other: the arm that it is held against.
        key: of the cost.
    """
    costs: dict[str, dict[Any, list[float]]] = {one: {}, other: {}}
    for piece in trainings:
        if piece["arm"] in costs:
            costs[piece["arm"]].setdefault((piece["seed"], piece["machine"]), []).append(float(piece[key]))
    own, others = ({of: statistics.median(values) for of, values in costs[arm].items()} for arm in (one, other))
    return [own[of] / others[of] for of in own if of in others]


def costs_table(tasks: Mapping[str, Pieces], pairs: Pairs, heads: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for two arms: does the one cost less, and how many times the other's is it?

    Args:
        tasks: name -> trainings.
        pairs: of arms.
        heads: key of a cost -> what the page calls it.
    """
    yield f"| claim | {' | '.join(f'less {head}' for head in heads.values())} |"
    yield "| --- " * (1 + len(heads)) + "|"
    for one, other in pairs:
        cells = [_cell(tasks, one, other, key) for key in heads]
        if any(cells):
            yield f"| {one} takes less than {other} | {' | '.join(cell or '–' for cell in cells)} |"


def _cell(tasks: Mapping[str, Pieces], one: str, other: str, key: str) -> str:
    """Write the verdict on one cost, and the ratio on each task."""
    every = {name: values for name, of in tasks.items() if len(values := ratios(of, one, other, key)) >= MIN_SEEDS}
    intervals: dict[str, Any] = {name: mean_interval(values) for name, values in every.items()}
    if not intervals:
        return ""
    wins = sum(each["mean"] + each["half_width"] < 1 for each in intervals.values())
    losses = sum(each["mean"] - each["half_width"] > 1 for each in intervals.values())
    tally = Tally(wins, losses, len(intervals) - wins - losses, 0)
    effects = [f"{name} × {each['mean']:.2f} ± {each['half_width']:.2f}" for name, each in intervals.items()]
    return BREAK.join([str(tally), *effects])
