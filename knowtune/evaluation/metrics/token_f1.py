"""F1 of the words of an answer."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.answer_matching import best_of, token_f1
from knowtune.evaluation.metrics.base import Judged, Metric


class TokenF1(Metric):
    """Mean F1 of the words of the greedy answer and of the right one, on held-out rows; of several, the best.

    SQuAD's score: see `knowtune.evaluation.answer_matching`. The answer is read whole, up to `answers.max_new_tokens`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "F1 of the answer's words, held-out rows"
    reads_answers: ClassVar[bool] = True
    reads_whole_answers: ClassVar[bool] = True

    def compute(self, judged: Judged) -> float | None:
        """Average over the held-out rows."""
        best = best_of(judged.of_kind("generalisation"), token_f1)
        return sum(best) / len(best) if best else None
