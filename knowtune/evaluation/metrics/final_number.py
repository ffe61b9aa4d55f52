"""Whether an answer ends with the right number."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.answer_matching import best_of, final_number, same_number
from knowtune.evaluation.metrics.base import Judged, Metric


class FinalNumber(Metric):
    """Share of held-out rows whose greedy answer ends with the number that a right answer ends with, as for GSM8K.

    Which number that is: see `knowtune.evaluation.answer_matching.final_number`. Numbers are compared by value (18
    is 18.0). Rows whose right answers have no number are left out. The answer is read whole, up to
    `answers.max_new_tokens`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "final number right, held-out rows"
    reads_answers: ClassVar[bool] = True
    reads_whole_answers: ClassVar[bool] = True

    def compute(self, judged: Judged) -> float | None:
        """Average over the held-out rows that have a number."""
        scores = best_of(judged.of_kind("generalisation"), same_number, lambda right: final_number(right) is not None)
        return sum(scores) / len(scores) if scores else None
