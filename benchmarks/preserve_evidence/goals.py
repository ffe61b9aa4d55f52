"""What is aimed at: how much must be learned, beside plain LoRA at its best rate, and how little lost."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

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


def reaches(result: TaskResults, arm: str) -> bool | None:
    """Tell whether an arm's means at its chosen rate are within its goal; None where plain LoRA is not finished."""
    plain, own = (list(result.comparison.run(name).values()) for name in (PLAIN_LORA, arm))
    if not plain or not own:
        return None
    goal = goal_of(result.name, arm)
    behind = statistics.fmean(m[LEARNED] for m in plain) - statistics.fmean(m[LEARNED] for m in own)
    lost, drift = (statistics.fmean(metrics[name] for metrics in own) for name in (LOST, DRIFT))
    return behind <= goal.behind and lost <= goal.lost and (goal.drift is None or drift <= goal.drift)
