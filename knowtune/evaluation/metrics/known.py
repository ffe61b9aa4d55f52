"""Accuracy on what the base was known to know."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Known(Metric):
    """Share of known facts answered right. Of the base: how many of the facts called known it knows."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    needs: ClassVar[tuple[str, ...]] = ("known",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts right"

    def compute(self, judged: Judged) -> float | None:
        """Average over the examples of this kind."""
        chosen = judged.of_kind("locality")
        return float(chosen["correct"].mean()) if len(chosen) else None
