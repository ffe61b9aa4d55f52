"""Matthews correlation of a classifier."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Matthews(Metric):
    """Matthews correlation of labels and predictions on held-out rows, as GLUE scores CoLA."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "correlation"
    about: ClassVar[str] = "Matthews correlation on held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """By scikit-learn; none where the targets are of one label, by convention 0 where the predictions are."""
        from sklearn.metrics import matthews_corrcoef

        chosen = judged.of_kind("generalisation")
        if chosen.empty or chosen["target"].nunique() < 2:
            return None
        if chosen["predicted"].nunique() == 1:
            return 0.0
        return float(matthews_corrcoef(chosen["target"], chosen["predicted"]))
