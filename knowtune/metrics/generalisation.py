"""Generalisation: right on other wordings of the same fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class Generalisation(Metric):
    """Share of new facts answered right under a wording that was not trained with them."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "new facts, other wordings"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over the items of this kind."""
        chosen = items[items["kind"] == "generalisation"]
        return float(chosen["correct"].mean()) if len(chosen) else None
