"""Answers of a model to rows, and their semantic distance to the right ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.tasks.right_answers import right_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.semantics.distance import Vectors
    from knowtune.tasks.evaluator import Evaluator


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded and compared.

    Args:
        batch_size: rows per forward pass; answers depend on it by rounding alone.
        max_new_tokens: where an answer ends at the latest.
        extra_tokens: m; an answer is compared up to the length of the right one, and m tokens more to end a word.
    """

    batch_size: int
    max_new_tokens: int
    extra_tokens: int


def answer_rows(
    evaluator: Evaluator,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    decoding: Decoding,
    label: str,
    *,
    known: pd.Series[str] | None = None,
    whole: bool = False,
) -> pd.Series[str]:
    """Let a model answer rows.

    Args:
        evaluator: of the task.
        model: in evaluation mode; left as it is.
        tokenizer: the base's.
        rows: of the data contract, with target and aliases.
        decoding: see `Decoding`.
        label: what the progress bar says.
        known: answers that are known already, on the index of `rows`; missing where the model must answer.
        whole: whether answers go on to their end, beyond the length of the right ones.

    Returns:
        The answers, on the index of `rows`.
    """
    answers = pd.Series(None, index=rows.index, dtype="str") if known is None else known.astype("str")
    missing = rows[answers.isna()]
    if missing.empty:
        return answers
    extra = None if whole else decoding.extra_tokens
    given = evaluator.answer(model, tokenizer, missing, decoding.batch_size, decoding.max_new_tokens, label, extra)
    return answers.fillna(pd.Series(given, index=missing.index, dtype="str"))


def answer_distances(
    evaluator: Evaluator,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    answers: pd.Series[str],
    vectors: Vectors,
    decoding: Decoding,
) -> pd.Series[float]:
    """Measure how far each answer is from the nearest right one.

    Args:
        evaluator: of the task.
        tokenizer: the base's.
        rows: with target and aliases.
        answers: on the index of `rows`.
        vectors: of the pristine base, whichever model answered.
        decoding: with which the answers were made.

    Returns:
        Distances in [0, 2], NaN where the task has none; on the index of `rows`.
    """
    distances = evaluator.distances(vectors, tokenizer, answers.tolist(), right_answers(rows), decoding.extra_tokens)
    return pd.Series(distances, index=rows.index, dtype=float)
