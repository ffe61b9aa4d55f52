"""Reliability: right on paraphrases that were trained."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Reliability(Metric):
    """Share of new facts answered right in a trained paraphrase."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "new facts, trained paraphrases"

    def compute(self, judged: Judged) -> float | None:
        """Average over the examples of this kind."""
        chosen = judged.of_kind("reliability")
        return float(chosen["correct"].mean()) if len(chosen) else None
