"""Retention: how much worse general text is read than by the pristine base."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from knowtune.families import Metric


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
