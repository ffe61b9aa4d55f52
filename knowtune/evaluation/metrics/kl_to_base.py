"""Retention: how far the model's next-token distribution on general text lies from the pristine base's."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class KLToBase(Metric):
    """Mean forward divergence KL(base || tuned) per token of held-out general text.

    `text_drift` sees the tokens that stand in the text alone; this sees all that could have stood there.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    reads_base: ClassVar[tuple[str, ...]] = ("texts",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "divergence from the base's next-token distribution on held-out text"

    def compute(self, judged: Judged) -> float | None:
        """Average over tokens."""
        texts = judged.texts
        if texts.empty:
            return None
        return float((texts["kl"] * texts["num_tokens"]).sum(skipna=False) / texts["num_tokens"].sum())
