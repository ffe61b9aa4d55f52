"""What is aimed at: how much must be learned, beside plain LoRA at its best rate, and how little lost."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from benchmarks.evidence.comparisons import MIN_SEEDS, Comparison
from benchmarks.preserve_evidence.results import DRIFT, LEARNED, LOST, PLAIN_LORA, TaskResults


@dataclass(frozen=True)
class Goal:
    """Bounds on means over seeds, in shares and nats.

    Args:
        behind: how much less than plain LoRA may be learned.
        lost: how much may be forgotten.
        drift: how much the loss on text may rise; None for any.
    """

    behind: float
    lost: float
    drift: float | None = None

    def __str__(self) -> str:
        """Write the bounds."""
        drift = "" if self.drift is None else f", text_drift at most {self.drift:g}"
        return f"at most {100 * self.behind:g} points less learned, at most {100 * self.lost:g} forgotten{drift}"


GOALS = {"embedded": Goal(0.0, 0.10), "stories3m-facts": Goal(0.01, 0.015, 0.02)}
WITHOUT_DATA = {"embedded": Goal(0.0, 0.10), "stories3m-facts": Goal(0.015, 0.02)}
DATA = ("replay", "both", "text", "known")  # in the names of arms that read rows or texts


def goal_of(task: str, arm: str) -> Goal:
    """Return the goal of an arm: a milder one where it reads no data."""
    return (GOALS if any(word in arm for word in DATA) else WITHOUT_DATA)[task]


def best_rate(comparison: Comparison, arm: str) -> float | None:
    """Return the rate at which an arm learns most by the mean over seeds, seen with the results in view."""
    seeds = comparison.seeds(arm).values()
    means = {
        rate: statistics.fmean(metrics[LEARNED] for metrics in own)
        for rate in {rate for rates in seeds for rate in rates}
        if len(own := [rates[rate] for rates in seeds if rate in rates]) >= MIN_SEEDS
    }
    return max(means, key=lambda rate: (means[rate], -rate)) if means else None


def beside_best(comparison: Comparison) -> Comparison:
    """Give the comparison with plain LoRA at its best rate instead of the chosen one."""
    best = best_rate(comparison, PLAIN_LORA)
    return comparison if best is None else replace(comparison, chosen={**(comparison.chosen or {}), PLAIN_LORA: best})


def reached_at(result: TaskResults, arm: str) -> list[float]:
    """List the rates at which an arm's means over seeds are within its goal, beside plain LoRA at its best rate."""
    comparison = beside_best(result.comparison)
    goal = goal_of(result.name, arm)
    plain, seeds = comparison.run(PLAIN_LORA).values(), comparison.seeds(arm).values()
    if not plain:
        return []
    wanted = statistics.fmean(metrics[LEARNED] for metrics in plain) - goal.behind
    return [
        rate
        for rate in sorted({rate for rates in seeds for rate in rates})
        if len(own := [rates[rate] for rates in seeds if rate in rates]) >= MIN_SEEDS
        and statistics.fmean(metrics[LEARNED] for metrics in own) >= wanted
        and statistics.fmean(metrics[LOST] for metrics in own) <= goal.lost
        and (goal.drift is None or statistics.fmean(metrics[DRIFT] for metrics in own) <= goal.drift)
    ]
