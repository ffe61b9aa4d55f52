"""Matthews correlation of a classifier."""

from __future__ import annotations

from typing import ClassVar

from knowtune.families import Judged, Metric


class Matthews(Metric):
    """Matthews correlation of labels and predictions on held-out rows, as GLUE scores CoLA."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "correlation"
    about: ClassVar[str] = "Matthews correlation on held-out rows"

    def compute(self, judged: Judged) -> float | None:
        """By scikit-learn; 0 where the targets or the predictions are of one label."""
        from sklearn.metrics import matthews_corrcoef

        chosen = judged.of_kind("generalisation")
        if chosen.empty:
            return None
        if chosen["target"].nunique() == 1 or chosen["predicted"].nunique() == 1:
            return 0.0
        return float(matthews_corrcoef(chosen["target"], chosen["predicted"]))
