"""Whether an answer contains the right one."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.answer_matching import best_of, contains
from knowtune.evaluation.metrics.base import Judged, Metric


class Contains(Metric):
    """Share of held-out rows whose greedy answer contains a right one, word by word.

    Words are compared as for `token_f1`. The answer is read whole, up to `answers.max_new_tokens`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "share"
    about: ClassVar[str] = "answer contains the right one, held-out rows"
    reads_answers: ClassVar[bool] = True
    reads_whole_answers: ClassVar[bool] = True

    def compute(self, judged: Judged) -> float | None:
        """Average over the held-out rows."""
        scores = best_of(judged.of_kind("generalisation"), contains)
        return sum(scores) / len(scores) if scores else None
