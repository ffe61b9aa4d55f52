"""Locality: answers to what was known and not touched stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class Locality(Metric):
    """Of the known facts that the base answers right, the share that stays right."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts that stay right"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over the known items that the base has right."""
        chosen = items[(items["kind"] == "locality") & items["base_correct"].astype(bool)]
        return float(chosen["correct"].mean()) if len(chosen) else None
