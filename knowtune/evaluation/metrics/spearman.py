"""Spearman correlation of a regression."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Spearman(Metric):
    """Spearman correlation of scores and predictions on held-out rows, as GLUE scores STS-B."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "correlation"
    about: ClassVar[str] = "Spearman correlation on held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """By scipy; none where the scores or the predictions are constant, for which it is not defined."""
        from scipy.stats import spearmanr

        chosen = judged.of_kind("generalisation")
        if len(chosen) < 2:
            return None
        predicted, target = chosen["predicted"].astype(float), chosen["target"].astype(float)
        if predicted.nunique() == 1 or target.nunique() == 1:
            return None
        return float(spearmanr(predicted, target).statistic)
