"""Retention: how much worse general text is read than by the pristine base."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.families import Metric

if TYPE_CHECKING:
    import pandas as pd


class TextDrift(Metric):
    """Change of the loss on held-out general text against the pristine base."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "change of loss on held-out text"

    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Average the change over tokens."""
        if texts.empty:
            return None
        change = (texts["loss"] - texts["base_loss"]) * texts["num_tokens"]
        return float(change.sum() / texts["num_tokens"].sum())
