"""F1 of a classifier."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class F1(Metric):
    """F1 of the second of two labels, as GLUE scores MRPC and QQP; of more labels, the mean over those that occur."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "F1 on held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """By scikit-learn; the last of two labels is the positive one. Labels that do not occur count for nothing."""
        from sklearn.metrics import f1_score

        chosen = judged.of_kind("generalisation")
        if chosen.empty:
            return None
        counted = judged.labels[-1:] if len(judged.labels) == 2 else judged.labels
        there = {*chosen["target"], *chosen["predicted"]}
        labels = [label for label in counted if label in there]
        if not labels:
            return None
        return float(f1_score(chosen["target"], chosen["predicted"], labels=labels, average="macro", zero_division=0))
