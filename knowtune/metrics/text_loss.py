"""Loss on general text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class TextLoss(Metric):
    """Cross-entropy on held-out general text."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "loss on held-out text"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average over tokens."""
        if texts.empty:
            return None
        return float((texts["loss"] * texts["num_tokens"]).sum() / texts["num_tokens"].sum())
