"""Forgetting of a classifier: whether texts that were similar to the base still are."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class SimilarityOrder(Metric):
    """Spearman correlation of the texts' pairwise cosine similarities, tuned against base."""

    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "correlation"
    about: ClassVar[str] = "order of similarities between general texts kept"

    def compute(self, judged: Judged) -> float | None:
        """Compare the upper triangles of both similarity matrices."""
        import numpy as np
        from scipy.stats import spearmanr

        if judged.states is None or judged.base_states is None or len(judged.states) < 3:
            return None
        upper = np.triu_indices(len(judged.states), k=1)
        pairs = []
        for states in (judged.states, judged.base_states):
            unit = states / np.linalg.norm(states, axis=1, keepdims=True)
            pairs.append((unit @ unit.T)[upper])
        if any(np.ptp(pair) == 0 for pair in pairs):  # no order
            return None
        return float(spearmanr(*pairs).statistic)
