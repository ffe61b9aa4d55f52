"""F1 of a classifier."""

from __future__ import annotations

from typing import ClassVar

from knowtune.families import Judged, Metric


class F1(Metric):
    """F1 of the second of two labels, as GLUE scores MRPC and QQP; the mean over labels where there are more."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "F1 on held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """By scikit-learn; the last of two labels is the positive one."""
        from sklearn.metrics import f1_score

        chosen = judged.of_kind("generalisation")
        if chosen.empty:
            return None
        labels = judged.labels
        two = {"average": "binary", "pos_label": labels[-1]} if len(labels) == 2 else {"average": "macro"}
        return float(f1_score(chosen["target"], chosen["predicted"], labels=list(labels), zero_division=0, **two))
