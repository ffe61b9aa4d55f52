"""What every task can do: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.text.encoded import Encoded, Labelled
from knowtune.registry import Member


class Task(Member):
    """What is learned and how it is judged: how rows become tokens, which head the model has, the loss, the verdict."""

    learned: ClassVar[str]  # the metric that says what was learned, and the one that says what was lost
    lost: ClassVar[str]

    @abstractmethod
    def load_model(self, folder: Path, **options: Any) -> PreTrainedModel:
        """Load a checkpoint with this task's head; weights it lacks follow torch's global seed, as a new head does.

        Args:
            folder: in transformers layout.
            options: of transformers' `from_pretrained`.

        Raises:
            UserError: the checkpoint lacks more than a head, or its architecture cannot do this task.
        """

    @abstractmethod
    def require_fit(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, context: int | None
    ) -> None:
        """Run a model on a few tokens, and refuse one that cannot do this task, whatever it is called.

        Args:
            model: as `load_model` gives it, in evaluation mode.
            tokenizer: its own.
            folder: for messages.
            context: tokens that it can read; None where nothing limits them.

        Raises:
            UserError: says what it does, and what to give instead.
        """

    @abstractmethod
    def read_target(self, cell: Any) -> list[str]:
        """Read what a data file says is right: the target first, then further right answers; [] where it says nothing.

        Raises:
            ValueError: the cell says what this task does not have, e.g. a label out of range.
        """

    @abstractmethod
    def encode(self, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> Sequence[Encoded | Labelled]:
        """Turn rows of the data contract into tokens."""

    @abstractmethod
    def inputs(self, encoded: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Pad a batch on the right into what the model's forward pass takes  # each (batch, seq)."""

    @abstractmethod
    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Give what the loss compares with, first dimension the batch."""

    @abstractmethod
    def item_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each item that is learned of a row, and 0 of what is not  # (batch, items)."""

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each row's loss, summed over its items  # (batch,)."""
        return self.item_losses(logits, targets).sum(1)

    @abstractmethod
    def item_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Tell which of `item_losses` are of an item that is learned  # (batch, items), bool."""

    def num_items(self, targets: torch.Tensor) -> torch.Tensor:
        """Count what is learned in a batch: the loss of a step is the sum of losses over this."""
        return self.item_mask(targets).sum()

    @abstractmethod
    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield targets that the model itself expects, each with the rows' weights  # (batch,); these sum to 1 per row.

        Args:
            logits: of the model, without gradient.
            targets: the true ones; what is not learned there is not drawn.
            draws: how many to draw where the targets cannot be enumerated.
            generators: of each row's lot, on the CPU; what is drawn for a row depends on no other.
        """

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

        A task of a head adds `predicted`, its answer in words; one of a language model `said`, that answer where the
        judgement shows it, else None.
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
        """Read general texts: per text `num_tokens` and what else is said of it, and its states  # (text, hidden)."""

    @abstractmethod
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
        """Let the model answer rows (`prompt`, `text_pair`) in words.

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
        vectors: Callable[[Sequence[str]], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Return how far answers are from targets in meaning, in [0, 2]; NaN where the task has no distance.

        Args:
            vectors: see `Representation.opened`.
            tokenizer: the base's.
            answers: see `answers`.
            targets: what is right: one answer or several.
            extra_tokens: m; a written answer is cut to the length of the right one, and m tokens more to end a word.
        """
