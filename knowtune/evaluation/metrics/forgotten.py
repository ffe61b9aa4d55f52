"""Forgetting: known facts that the base had right and the tuned model has wrong."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Forgotten(Metric):
    """Of the known facts that the pristine base has right, the share that the model has wrong: lost / known before.

    Facts that the base never knew are in neither number, and gains are counted apart (`gained`).
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    needs: ClassVar[tuple[str, ...]] = ("known",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "of the known facts that the base has right, those lost"

    def compute(self, judged: Judged) -> float | None:
        """Average over the known examples that the base has right."""
        known = judged.of_kind("locality")
        chosen = known[known["base_correct"].astype(bool)]
        return 1.0 - float(chosen["correct"].mean()) if len(chosen) else None
