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
        """By scikit-learn; 0 where only one label is predicted."""
        from sklearn.metrics import matthews_corrcoef

        chosen = judged.of_kind("generalisation")
        return float(matthews_corrcoef(chosen["target"], chosen["predicted"])) if len(chosen) else None
