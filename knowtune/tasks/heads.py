"""What classification and regression have in common: a backbone with a small head on the pooled text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HeadTask(Task):
    """A task of a model with a head. Forgetting is how far its states on general text move from the base's."""

    lost: ClassVar[str] = "drift"

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """How many outputs the head has."""

    @abstractmethod
    def number(self, target: str) -> float:
        """Turn a target into the number that is learned; NaN where it is none."""

    @abstractmethod
    def words(self, outputs: torch.Tensor) -> list[str]:
        """Turn outputs into answers  # (row, output)."""

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

    def inputs(self, encoded: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Pad on the right, masked."""
        from knowtune.models.heads import classifier_inputs

        return classifier_inputs(encoded)

    def item_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Every row's one item is learned  # (batch, 1)."""
        import torch

        return torch.ones(len(targets), 1, dtype=torch.bool, device=targets.device)

    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Compare the model's answer with the target."""
        import pandas as pd

        from knowtune.models.heads import head_outputs
        from knowtune.models.hidden_states import require_room

        encoded = self.encode(tokenizer, rows)
        require_room(model, tokenizer, [len(row.input_ids) for row in encoded])
        outputs = head_outputs(model, encoded, batch_size, label)
        predicted = self.words(outputs)
        correct = pd.Series([p == t for p, t in zip(predicted, rows["target"], strict=True)], dtype=bool)
        loss = self.losses(outputs, self.targets(encoded)).tolist() if len(encoded) else []
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
        """Mean-pooled states of the texts."""
        import pandas as pd

        from knowtune.models.heads import pooled_states

        lengths, states = pooled_states(model, tokenizer, texts, batch_size, max_tokens, label)
        return pd.DataFrame({"num_tokens": lengths}), states

    def answers(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        max_new_tokens: int,
        label: str,
        extra_tokens: int | None = None,
    ) -> list[str]:
        """Give the head's answer."""
        from knowtune.models.heads import head_outputs
        from knowtune.models.hidden_states import evaluating, require_room

        encoded = self.encode(tokenizer, rows.assign(target=""))
        require_room(model, tokenizer, [len(row.input_ids) for row in encoded])
        with evaluating(model):
            return self.words(head_outputs(model, encoded, batch_size, label))

    def distances(
        self,
        vectors: Callable[[Sequence[str]], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Compare whole names of labels."""
        from knowtune.semantics.distance import text_distances

        return text_distances(vectors, answers, targets)
