"""Forgetting of a classifier: how far its hidden states on general text have moved."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class Drift(Metric):
    """Mean of 1 - cosine between a text's mean-pooled hidden states and the pristine base's."""

    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "1 - cosine"
    about: ClassVar[str] = "hidden states on general text against the base's"

    def compute(self, judged: Judged) -> float | None:
        """Average over texts."""
        from numpy.linalg import norm

        now, then = judged.states, judged.base_states
        if now is None or then is None or not len(now):
            return None
        cosines = (now * then).sum(1) / (norm(now, axis=1) * norm(then, axis=1))
        return float((1 - cosines).mean())
