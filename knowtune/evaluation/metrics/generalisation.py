"""Generalisation: right on other paraphrases of the same fact."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Generalisation(Metric):
    """Share of new facts answered right in a paraphrase that was not trained with them."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "new facts, other paraphrases"

    def compute(self, judged: Judged) -> float | None:
        """Average over the examples of this kind."""
        chosen = judged.of_kind("generalisation")
        return float(chosen["correct"].mean()) if len(chosen) else None
