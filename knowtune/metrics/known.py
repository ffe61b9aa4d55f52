"""Accuracy on what the base was known to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class Known(Metric):
    """Share of known facts answered right."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts right"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over the items of this kind."""
        chosen = items[items["kind"] == "locality"]
        return float(chosen["correct"].mean()) if len(chosen) else None
