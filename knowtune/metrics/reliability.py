"""Reliability: right on wordings that were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class Reliability(Metric):
    """Share of new facts answered right under a trained wording."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "new facts, trained wordings"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over the items of this kind."""
        chosen = items[items["kind"] == "reliability"]
        return float(chosen["correct"].mean()) if len(chosen) else None
