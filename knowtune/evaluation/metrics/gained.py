"""Gains: known facts that the base had wrong and the tuned model has right."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Gained(Metric):
    """Of the known facts that the pristine base has wrong, the share that the model has right."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    needs: ClassVar[tuple[str, ...]] = ("known",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "of the known facts that the base has wrong, those right now"

    def compute(self, judged: Judged) -> float | None:
        """Average over the known examples that the base has wrong."""
        known = judged.of_kind("locality")
        chosen = known[~known["base_correct"].astype(bool)]
        return float(chosen["correct"].mean()) if len(chosen) else None
