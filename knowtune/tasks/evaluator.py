"""What a task asks of a model: whether it is right, what it answers, how it reads general text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.semantics.distance import Vectors


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
        pristine: torch.nn.Module | None = None,
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """Read general texts; beside the pristine base where it is given.

        Returns:
            Per text `num_tokens`, and of a language model `loss` in nats per token, beside the base also `kl`; of a
            model with a head also the mean-pooled hidden states  # (text, hidden).
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
