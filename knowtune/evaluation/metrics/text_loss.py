"""Loss on general text."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class TextLoss(Metric):
    """Cross-entropy on held-out general text."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "loss on held-out text"

    def compute(self, judged: Judged) -> float | None:
        """Average over tokens."""
        texts = judged.texts
        if texts.empty:
            return None
        return float((texts["loss"] * texts["num_tokens"]).sum(skipna=False) / texts["num_tokens"].sum())
