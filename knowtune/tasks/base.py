"""What every task can do: the family's base class.

A task is three parts: it *encodes* rows as tokens, its *objective* is the loss, and its *evaluator* says what a model
gets right. All that trains, scores or merges asks the part that it needs, and knows nothing of labels or targets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.registry import Member

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.tasks.evaluator import Evaluator
    from knowtune.tasks.objective import Objective
    from knowtune.text.encoded import Encoded, Labelled


class Task(Member):
    """What a model learns, and how it is judged."""

    learned: ClassVar[str]  # the metric that says what was learned, and the one that says what was lost
    lost: ClassVar[str]
    numeric: ClassVar[bool] = False  # whether an answer is a number
    writes: ClassVar[bool] = False  # whether the model writes text, so that it has sequences of its own

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """The loss."""

    @property
    @abstractmethod
    def evaluator(self) -> Evaluator:
        """What says whether a model is right."""

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
        """Read the right answers in a cell of a data file: the target first, then aliases; [] where there is none.

        Raises:
            ValueError: the cell holds what this task does not have, e.g. a label out of range.
        """

    @abstractmethod
    def encode(self, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> Sequence[Encoded | Labelled]:
        """Turn rows of the data contract into tokens."""

    @abstractmethod
    def encode_texts(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
    ) -> Sequence[Encoded | Labelled]:
        """Turn general texts into tokens, cut at `max_tokens`: each token after the first is learned, or no label."""

    def inputs(self, encoded: Sequence[Encoded | Labelled]) -> dict[str, torch.Tensor]:
        """Pad a batch on the right into what the model's forward pass takes  # each (batch, seq)."""
        from knowtune.models.forward import batch_inputs

        return batch_inputs(encoded)
