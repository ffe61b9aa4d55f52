"""New against old answer, on trained paraphrases."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.answer_matching import preferred_share
from knowtune.evaluation.metrics.base import Judged, Metric


class Efficacy(Metric):
    """Share of new facts whose new answer is likelier than the old one, in trained paraphrases.

    ROME's efficacy score (Meng et al., arXiv 2202.05262) as its released code computes it: log-probabilities are
    averaged over an answer's tokens, so that the shorter one is not favoured. Of several new or old answers the
    likeliest counts. Examples without an old answer are left out.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "new answer likelier than the old one, trained paraphrases"

    def compute(self, judged: Judged) -> float | None:
        """Average over the examples that have an old answer."""
        return preferred_share(judged.of_kind("reliability"))
