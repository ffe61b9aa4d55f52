"""What classification and regression have in common: a backbone with a small head on the pooled text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.tasks.evaluator import Evaluator


class HeadTask(Task):
    """A task of a model with a head. Forgetting is how far its hidden states on general text move from the base's."""

    lost: ClassVar[str] = "drift"
    compare_meaning: ClassVar[bool]  # whether predictions are words, and so have a distance in meaning

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """How many outputs the head has."""

    @abstractmethod
    def number(self, target: str) -> float:
        """Turn a target into the number that is learned; NaN where it is none."""

    @abstractmethod
    def to_text(self, outputs: torch.Tensor) -> list[str]:
        """Turn outputs into predictions  # (row, output)."""

    @property
    def evaluator(self) -> Evaluator:
        """Predictions beside targets."""
        from knowtune.tasks.head_evaluator import HeadEvaluator

        return HeadEvaluator(self.encode, self.to_text, self.objective, self.compare_meaning)

    def load_model(self, folder: Path, **options: Any) -> PreTrainedModel:
        """Load a backbone with the head; a new one where the checkpoint has none."""
        from knowtune.models.heads import load_classifier

        return load_classifier(folder, self.num_outputs, **options)

    def require_fit(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, context: int | None
    ) -> None:
        """Refuse a model whose answer to a row depends on the rows beside it."""
        from knowtune.common.errors import UserError
        from knowtune.models.heads import depends_on_batch

        if depends_on_batch(model, tokenizer, context):
            raise UserError(
                f"{folder}: {type(model).__name__} gives a row another answer beside longer rows than alone: it does "
                "not leave out padding; give another encoder or decoder"
            )

    def encode(self, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> Sequence[Any]:
        """Text and second text, with the number to learn."""
        from knowtune.text.encode_pairs import encode_pairs
        from knowtune.text.encode_rows import layouts_of

        numbers = [self.number(target) for target in rows["target"]]
        texts, pairs = rows["prompt"].tolist(), rows["text_pair"].tolist()
        return encode_pairs(tokenizer, texts, pairs, numbers, layouts=layouts_of(rows))

    def encode_texts(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> Sequence[Any]:
        """Texts without a label."""
        from knowtune.text.encode_pairs import encode_pairs

        return encode_pairs(tokenizer, texts, [], [float("nan")] * len(texts), max_tokens)
