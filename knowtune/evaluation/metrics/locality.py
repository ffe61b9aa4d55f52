"""Locality: answers to what was known and not touched stay."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Locality(Metric):
    """Of the known facts that the base answers right, the share that stays right: 1 - `forgotten`."""

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    needs: ClassVar[tuple[str, ...]] = ("known",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "known facts that stay right"

    def compute(self, judged: Judged) -> float | None:
        """Average over the known examples that the base has right."""
        known = judged.of_kind("locality")
        chosen = known[known["base_correct"].astype(bool)]
        return float(chosen["correct"].mean()) if len(chosen) else None
