"""What is finished, read back: of each task a comparison of all its arms."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import GRID_SEED, MIN_SEEDS, Comparison, sort_trainings
from benchmarks.evidence.store import read_latest
from benchmarks.methods_evidence.arms import RATES, arms_of, ladder_of

MEASURES = {"embedded": ("generalisation", "forgotten"), "pararel": ("generalisation", "forgotten"),
            "sst2": ("accuracy", "drift")}  # fmt: skip


@dataclass(frozen=True)
class TaskResults:
    """All that is finished of a task.

    Args:
        base: the pristine base's piece.
        truncated: what KaSA's base scores before training; None where it is not measured.
        trainings: all finished ones.
        costs: of short trainings of all arms in turn, in several rounds.
        comparison: of all arms.
    """

    base: Mapping[str, Any]
    truncated: Mapping[str, float] | None
    trainings: Sequence[Mapping[str, Any]]
    costs: Sequence[Mapping[str, Any]]
    comparison: Comparison

    @property
    def name(self) -> str:
        """The task's name."""
        return self.comparison.name

    @property
    def arms(self) -> list[str]:
        """The arms with enough seeds at their chosen rate, in the order of the page."""
        return [arm.name for arm in arms_of(self.name) if len(self.comparison.run(arm.name)) >= MIN_SEEDS]

    @property
    def open(self) -> list[str]:
        """The arms whose trainings do not decide which rate is theirs."""
        return [arm.name for arm in arms_of(self.name) if self.comparison.is_open(arm.name)]

    @property
    def unfinished(self) -> list[str]:
        """The other arms."""
        return [arm.name for arm in arms_of(self.name) if arm.name not in (*self.arms, *self.open)]

    @property
    def at_an_end(self) -> list[str]:
        """The arms of which the chosen rate is the lowest or the highest that was tried, though the ladder goes on."""
        return [arm for arm in self.arms if self._goes_on(arm)]

    def _goes_on(self, arm: str) -> bool:
        tried, rate = sorted(self.comparison.trainings[arm][GRID_SEED]), self.comparison.rate(arm)
        ladder = ladder_of(arm)
        return (rate == tried[0] != ladder[0]) or (rate == tried[-1] != ladder[-1])

    @property
    def hours(self) -> float:
        """CPU hours of all trainings."""
        return sum(float(piece["cpu"]) for piece in self.trainings) / 3600

    def median(self, arm: str, key: str, beside: str | None = None) -> float:
        """Give the median of a cost over an arm's rounds, or over those of them that another arm has as well."""
        rounds = {piece["seed"] for piece in self.costs if piece["arm"] == (beside or arm)}
        return statistics.median(
            float(piece[key]) for piece in self.costs if piece["arm"] == arm and piece["seed"] in rounds
        )


def read_results(work: Path) -> list[TaskResults]:
    """Read the tasks of which an arm is finished."""
    results = []
    for name in RATES:
        base, pieces = read_latest(work / f"{name}.jsonl")
        if base is None:
            continue
        trainings = [piece for piece in pieces if piece["what"] == "training"]
        costs = [piece for piece in pieces if piece["what"] == "cost"]
        truncated = next((piece["metrics"] for piece in pieces if piece["what"] == "truncated"), None)
        learned, lost = MEASURES[name]
        sorted_trainings = sort_trainings(trainings, itemgetter("arm"))
        comparison = Comparison(name, learned, lost, base["metrics"], sorted_trainings, second=True)
        results.append(TaskResults(base, truncated, trainings, costs, comparison))
    return [result for result in results if result.arms]
