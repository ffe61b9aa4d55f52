"""Pushed away: answers that are farther from their target than before training, of new facts."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.distance_change import PUSHED, distance_changes, new_facts
from knowtune.evaluation.metrics.base import Judged, Metric


class PushedAway(Metric):
    """Share of new facts, or held-out rows, whose answer is farther from its target than the pristine base's was.

    Farther by more than `knowtune.evaluation.distance_change.PUSHED`. A reconstruction of the first finding of
    *Semantic are Beacons* (arXiv 2405.18292): fine-tuning can move a model away from the target that it is to learn.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge", "classification")
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "answers farther from the target than the base's were"
    reads_answers: ClassVar[bool] = True

    def compute(self, judged: Judged) -> float | None:
        """Count those that moved away, of all that have a distance."""
        moved = distance_changes(new_facts(judged.examples))
        return float((moved > PUSHED).mean()) if len(moved) else None
