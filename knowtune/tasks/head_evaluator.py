"""Evaluate a model with a head: predictions as text, hidden states on general text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.models.heads import head_outputs, pooled_states
from knowtune.models.hidden_states import evaluating, require_room
from knowtune.semantics.distance import Vectors, text_distances
from knowtune.tasks.evaluator import Evaluator

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.tasks.objective import Objective


@dataclass(frozen=True)
class HeadEvaluator(Evaluator):
    """Compares what a head predicts, in words, with the target.

    Args:
        encode: the task's.
        to_text: turns outputs of the head into predictions  # (row, output).
        objective: gives the loss of a row.
        compare_meaning: whether predictions are words, and so have a distance in meaning.
    """

    encode: Callable[[PreTrainedTokenizerBase, pd.DataFrame], Sequence[Any]]
    to_text: Callable[[torch.Tensor], list[str]]
    objective: Objective
    compare_meaning: bool

    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Compare predictions with targets."""
        encoded = self.encode(tokenizer, rows)
        require_room(model, tokenizer, [len(row.input_ids) for row in encoded])
        outputs = head_outputs(model, encoded, batch_size, label)
        predicted = self.to_text(outputs)
        correct = pd.Series([p == t for p, t in zip(predicted, rows["target"], strict=True)], dtype=bool)
        loss = self.objective.losses(outputs, self.objective.targets(encoded)).tolist() if len(encoded) else []
        return pd.DataFrame({"correct": correct, "loss": loss, "predicted": predicted}).set_index(rows.index)

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
        """Return mean-pooled hidden states; no losses."""
        lengths, states = pooled_states(model, tokenizer, texts, batch_size, max_tokens, label)
        return pd.DataFrame({"num_tokens": lengths}), states

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
        """Return predictions."""
        encoded = self.encode(tokenizer, rows.assign(target=""))
        require_room(model, tokenizer, [len(row.input_ids) for row in encoded])
        with evaluating(model):
            return self.to_text(head_outputs(model, encoded, batch_size, label))

    def distances(
        self,
        vectors: Vectors,
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Compare whole predictions."""
        return text_distances(vectors, answers, targets) if self.compare_meaning else [math.nan] * len(answers)
