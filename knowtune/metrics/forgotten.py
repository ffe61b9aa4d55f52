"""Forgetting: known facts that the base had right and the tuned model has wrong."""

from __future__ import annotations

from typing import ClassVar

from knowtune.families import Judged, Metric


class Forgotten(Metric):
    """Accuracy of the pristine base on known facts minus the tuned model's; negative where it gained."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts lost against the base"

    def compute(self, judged: Judged) -> float | None:
        """Subtract item by item and average."""
        chosen = judged.of_kind("locality")
        lost = chosen["base_correct"].astype(float) - chosen["correct"].astype(float)
        return float(lost.mean()) if len(chosen) else None
