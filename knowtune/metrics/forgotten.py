"""Forgetting: known facts that the base had right and the tuned model has wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class Forgotten(Metric):
    """Accuracy of the pristine base on known facts minus the tuned model's; negative where it gained."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts lost against the base"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Subtract item by item and average."""
        chosen = items[items["kind"] == "locality"]
        lost = chosen["base_correct"].astype(float) - chosen["correct"].astype(float)
        return float(lost.mean()) if len(chosen) else None
