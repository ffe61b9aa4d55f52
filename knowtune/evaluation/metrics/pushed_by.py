"""Pushed by: how far those answers moved that were pushed away."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.distance_change import PUSHED, distance_changes, new_facts
from knowtune.evaluation.metrics.base import Judged, Metric


class PushedBy(Metric):
    """Mean growth of the semantic distance to the target, of the answers that `pushed_away` counts; 0 if none."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge", "classification")
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "1 - cosine"
    about: ClassVar[str] = "how much farther those are, on average"
    reads_answers: ClassVar[bool] = True

    def compute(self, judged: Judged) -> float | None:
        """Average the growth."""
        moved = distance_changes(new_facts(judged.examples))
        pushed = moved[moved > PUSHED]
        return (float(pushed.mean()) if len(pushed) else 0.0) if len(moved) else None
