"""Evaluate a language model: teacher forcing, greedy answers, loss on general text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from knowtune.models.generate import greedy_answers
from knowtune.semantics.distance import Vectors, cut_to_length, text_distances
from knowtune.tasks.evaluator import Evaluator
from knowtune.tasks.right_answers import longest_right_answers
from knowtune.tasks.teacher_forcing import judge_answers, judge_old, read_texts
from knowtune.text.encode_rows import layouts_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedTokenizerBase


class LanguageModelEvaluator(Evaluator):
    """Right when every token of an answer is the model's first choice."""

    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Judge each row by its best right answer, and the old one beside it; see `tasks.teacher_forcing`."""
        judged = judge_answers(model, tokenizer, rows, batch_size, label)
        if not rows["old"].any():
            return judged
        return judged.assign(old_loss=judge_old(model, tokenizer, rows, batch_size, f"{label}, old answers"))

    def read_texts(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch_size: int,
        max_tokens: int,
        label: str,
        pristine: torch.nn.Module | None = None,
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """Return losses; no hidden states."""
        return read_texts(model, tokenizer, texts, batch_size, max_tokens, label, pristine), None

    def answer(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        max_new_tokens: int,
        label: str,
        extra_tokens: int | None = None,
    ) -> list[str]:
        """Decode greedily; equal prompts are answered once."""
        limits = [max_new_tokens] * len(rows)
        if extra_tokens is not None:
            limits = [min(max_new_tokens, max(1, n + extra_tokens)) for n in longest_right_answers(tokenizer, rows)]
        return greedy_answers(model, tokenizer, rows["prompt"].tolist(), batch_size, limits, label, layouts_of(rows))

    def distances(
        self,
        vectors: Vectors,
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Compare answers, cut to the length of the right ones."""
        return text_distances(vectors, answers, targets, partial(cut_to_length, tokenizer, extra_tokens))
