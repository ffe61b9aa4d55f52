"""Accuracy of a classifier."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Accuracy(Metric):
    """Share of held-out rows whose label is right."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "held-out rows right"

    def compute(self, judged: Judged) -> float | None:
        """Average over the held-out rows."""
        chosen = judged.of_kind("generalisation")
        return float(chosen["correct"].mean()) if len(chosen) else None
