"""Evaluators: whether a model is right, what it answers, and how it reads general text."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from knowtune.models.generate import greedy_answers
from knowtune.models.heads import head_outputs, pooled_states
from knowtune.models.hidden_states import evaluating, require_room
from knowtune.semantics.distance import Vectors, cut_to_length, text_distances
from knowtune.tasks.objectives import Objective
from knowtune.tasks.right_answers import longest_right_answers
from knowtune.tasks.teacher_forcing import judge_answers, judge_old, read_texts
from knowtune.text.encode_rows import layouts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Evaluator(ABC):
    """What a task asks of a model that is in evaluation mode, and left as it is."""

    @abstractmethod
    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Judge rows: `correct` (bool) and `loss`, on the index of `rows`.

        A model with a head adds `predicted`, its prediction as text. A language model adds `answer`, its greedy answer
        where the judgement shows it, else None; and `old_loss` where rows have an old answer.
        """

    @abstractmethod
    def read_texts(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch_size: int,
        max_tokens: int,
        label: str,
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """Read general texts.

        Returns:
            Per text `num_tokens`, and of a language model `loss` in nats per token; of a model with a head also the
            mean-pooled hidden states  # (text, hidden).
        """

    @abstractmethod
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
        """Answer rows (`prompt`, `text_pair`) in words.

        Args:
            model: in any mode; left as it is.
            tokenizer: the base's.
            rows: also with `target` and `aliases` where `extra_tokens` is given.
            batch_size: rows per forward pass.
            max_new_tokens: where an answer ends at the latest.
            label: what the progress bar says.
            extra_tokens: m; an answer also ends m tokens after the length of its longest right answer. None: it does
                not. For tasks that write text.
        """

    @abstractmethod
    def distances(
        self,
        vectors: Vectors,
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Return how far answers are from targets in meaning, in [0, 2]; NaN where the task has no distance.

        Args:
            vectors: see `Representation.open`.
            tokenizer: the base's.
            answers: see `answer`.
            targets: right answers of each row, one or several.
            extra_tokens: m; a written answer is cut to the length of the right one, and m tokens more to end a word.
        """


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
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """Return losses; no hidden states."""
        return read_texts(model, tokenizer, texts, batch_size, max_tokens, label), None

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
