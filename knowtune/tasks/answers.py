"""Answers of a model to rows, and how far they are from the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.tasks.base import Task
from knowtune.semantics.distance import Vectors


def answered(
    task: Task,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    vectors: Vectors,
    *,
    batch_size: int,
    max_new_tokens: int,
    extra_tokens: int,
    label: str,
    said: pd.Series[str] | None = None,
    whole: bool = False,
) -> pd.DataFrame:
    """Let a model answer rows, and measure how far each answer is from the nearest right one.

    Args:
        task: how rows are asked.
        model: in evaluation mode; left as it is.
        tokenizer: the base's.
        rows: of the data contract, with target and aliases.
        vectors: of the pristine base, whichever model answers.
        batch_size: rows that are asked at a time; answers depend on it by rounding alone.
        max_new_tokens: where an answer ends at the latest.
        extra_tokens: m, see above.
        label: what the progress bar says.
        said: answers that are known already, on the index of `rows`; missing where the model must be asked.
        whole: whether answers go on to their end, beyond the length of what is right.

    Returns:
        `answer` and `distance`, on the index of `rows`.
    """
    known = pd.Series(None, index=rows.index, dtype="str") if said is None else said.astype("str")
    asked = rows[known.isna()]
    extra = None if whole else extra_tokens
    told = task.answers(model, tokenizer, asked, batch_size, max_new_tokens, label, extra) if len(asked) else []
    answers = known.fillna(pd.Series(told, index=asked.index, dtype="str"))
    distances = task.distances(vectors, tokenizer, answers.tolist(), right_answers(rows), extra_tokens)
    return pd.DataFrame({"answer": answers, "distance": pd.Series(distances, rows.index, dtype=float)})


def right_answers(rows: pd.DataFrame) -> list[list[str]]:
    """Give all right answers of each row, the target first; it may have several lines, the others have one each."""
    pairs = zip(rows["target"], rows["aliases"], strict=True)
    return [[target, *(aliases.split("\n") if aliases else [])] for target, aliases in pairs]
