"""Retention: how much worse general text is read than by the pristine base."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class TextDrift(Metric):
    """Change of the loss on held-out general text against the pristine base."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "change of loss on held-out text"

    def compute(self, judged: Judged) -> float | None:
        """Average the change over tokens."""
        texts = judged.texts
        if texts.empty:
            return None
        change = (texts["loss"] - texts["base_loss"]) * texts["num_tokens"]
        return float(change.sum(skipna=False) / texts["num_tokens"].sum())
