"""What every metric can do, and the evaluation examples that it reads: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

from knowtune.registry import Member


@dataclass(frozen=True)
class Judged:
    """Per-example results of a model beside those of the pristine base.

    Args:
        examples: columns id, fact, relation, kind, target, aliases, correct, loss, base_correct, base_loss; for a
            classifier also predicted; where some have an old answer, also old_loss, NaN where there is none; where a
            metric reads answers, also answer, distance, base_answer, base_distance; where one reads the base on
            prompts, also prompt_kl (nats per token) and prompt_tokens, NaN but for generalisation.
        texts: columns id, num_tokens; for a language model also loss (nats per token) and base_loss, and where a metric
            reads the base on texts kl (nats per token).
        states: for a classifier, mean-pooled states of each text  # (text, hidden).
        base_states: the same of the pristine base.
        labels: of a classification, in their order.
    """

    examples: pd.DataFrame
    texts: pd.DataFrame
    states: np.ndarray[Any, Any] | None = None
    base_states: np.ndarray[Any, Any] | None = None
    labels: Sequence[str] = ()

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Give the examples of a kind."""
        return self.examples[self.examples["kind"] == kind]


class Metric(Member):
    """One number of the leaderboard, computed from per-example results of a model and of the pristine base."""

    reads_answers: ClassVar[bool] = False  # whether examples must have answers in words and their distances
    reads_whole_answers: ClassVar[bool] = False  # whether answers must go on beyond the length of what is right
    reads_base: ClassVar[tuple[str, ...]] = ()  # where the base's distributions stand beside: texts, prompts
    needs: ClassVar[tuple[str, ...]] = ()  # rows that the source must give, without which it says nothing: "known"

    tasks: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[bool]
    unit: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def compute(self, judged: Judged) -> float | None:
        """Return the number, or None where the data has nothing to measure it on."""
