"""Accuracy on what the base was known to know."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from knowtune.families import Metric


class Known(Metric):
    """Share of known facts answered right."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts right"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over the items of this kind."""
        chosen = items[items["kind"] == "locality"]
        return float(chosen["correct"].mean()) if len(chosen) else None
