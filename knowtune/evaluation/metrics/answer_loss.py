"""Loss of the right answers on held-out rows."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class AnswerLoss(Metric):
    """Cross-entropy of the right answer of held-out rows; of several, of the likeliest.

    Averaged over an answer's tokens, without its end, then over rows: a long answer counts as much as a short one.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "loss of the right answer, held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """Average over the held-out rows."""
        chosen = judged.of_kind("generalisation")
        return float(chosen["loss"].astype(float).mean(skipna=False)) if len(chosen) else None
