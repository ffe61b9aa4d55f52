"""What of the tuned model is compared with the pristine base: tokens, a head's outputs, or the states of a text.

A comparison says how many things of a sequence it compares, gets them of the base, and gives their divergence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from knowtune.common.errors import UserError
from knowtune.models.load import new_modules
from knowtune.preserve.distill import divergences, score_divergences, state_divergences
from knowtune.tasks.head_task import HeadTask

if TYPE_CHECKING:
    from knowtune.preserve.options import Distill
    from knowtune.preserve.teacher import Inputs, Teacher
    from knowtune.tasks.base import Task
    from knowtune.text.encoded import Encoded, Labelled


class Comparison(ABC):
    """Compares one thing of each sequence."""

    options: ClassVar[dict[str, Any]] = {}  # of the forward pass
    runs_base: ClassVar[bool] = True  # whether a step needs a teacher
    teacher: Teacher  # chosen once the method is attached

    def __init__(self, distill: Distill) -> None:
        """Take temperature and direction."""
        self.distill = distill

        self.scale = distill.temperature**2  # what the mean divergence is multiplied with beside its weight

    def num_compared(self, sequence: Encoded | Labelled) -> int:
        """Count the terms of the mean that a sequence makes."""
        return 1

    def of_base(self, plain: Any, inputs: Inputs, drawn: list[int]) -> Any:
        """Return what the base gives for a batch.

        Args:
            plain: the model that is trained, without a launcher's wrapper.
            inputs: of the forward pass.
            drawn: the numbers of the sequences.
        """
        return self.taken(self.teacher(plain, inputs, **self.options), inputs)

    def require(self, model: Any, where: str) -> None:  # noqa: B027  most refuse nothing
        """Refuse a pristine base that has nothing to compare with.

        Raises:
            UserError: says what it lacks.
        """

    @property
    def about(self) -> str:
        """Say what stands for the base."""
        return self.teacher.about

    @abstractmethod
    def taken(self, outputs: Any, inputs: Inputs) -> torch.Tensor:
        """Take what is compared from a forward pass, first dimension the batch."""

    @abstractmethod
    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """Return the divergence of each sequence, summed over what of it is compared  # (batch,).

        Args:
            outputs: of the tuned model's forward pass.
            base: what `of_base` gave.
            inputs: of the forward pass.
        """


class Tokens(Comparison):
    """Compares the distribution of every token after a sequence's first."""

    def num_compared(self, sequence: Encoded | Labelled) -> int:
        """Count the tokens after the first."""
        return len(sequence.input_ids) - 1

    def taken(self, outputs: Any, inputs: Inputs) -> torch.Tensor:
        """Take the logits; prompt-learning methods may put virtual tokens first  # (batch, seq, vocabulary)."""
        logits: torch.Tensor = outputs.logits
        length = inputs["input_ids"].shape[1]
        return logits if logits.shape[1] == length else logits[:, -length:]

    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """Sum over the tokens of each sequence."""
        logits = self.taken(outputs, inputs).flatten(0, 1)
        each = divergences(logits, base.flatten(0, 1), self.distill.temperature, self.distill.direction)
        return (each.view(inputs["input_ids"].shape) * self.read(inputs)).sum(1)

    def read(self, inputs: Inputs) -> torch.Tensor:
        """Return 1 before a token that is read, 0 elsewhere  # (batch, seq)."""
        return torch.nn.functional.pad(inputs["attention_mask"][:, 1:], (0, 1))


class Labels(Comparison):
    """Compares the distribution of a head's labels."""

    def require(self, model: Any, where: str) -> None:
        """Refuse a head that nobody has trained."""
        if new_modules(model):
            fault = f"got 'logits', but the base's {', '.join(sorted(new_modules(model)))} is new, and says nothing yet"
            raise UserError(f"{where}.match: {fault}; take states")

    def taken(self, outputs: Any, inputs: Inputs) -> torch.Tensor:
        """Take the logits  # (batch, labels)."""
        logits: torch.Tensor = outputs.logits
        return logits

    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """KL over labels."""
        return divergences(outputs.logits, base, self.distill.temperature, self.distill.direction)


class Scores(Labels):
    """Compares a head's score; there is no temperature."""

    def __init__(self, distill: Distill) -> None:
        """Take no temperature."""
        super().__init__(distill)
        self.scale = 1.0

    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """Square the difference."""
        return score_divergences(outputs.logits, base)


class States(Comparison):
    """Compares the mean over a text's tokens of the last hidden states, as the metric `drift` does."""

    options: ClassVar[dict[str, Any]] = {"output_hidden_states": True}

    def __init__(self, distill: Distill) -> None:
        """Take no temperature."""
        super().__init__(distill)
        self.scale = 1.0

    def taken(self, outputs: Any, inputs: Inputs) -> torch.Tensor:
        """Average the last hidden states over the text's tokens  # (batch, hidden)."""
        mask = inputs["attention_mask"].unsqueeze(-1).float()  # (batch, seq, 1)
        states = outputs.hidden_states[-1][:, -mask.shape[1] :].float()  # virtual tokens may stand before the text
        means: torch.Tensor = (states * mask).sum(1) / mask.sum(1)
        return means

    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """1 - cosine."""
        return state_divergences(self.taken(outputs, inputs), base)


def open_comparison(distill: Distill, task: Task, where: str) -> Comparison:
    """Choose what is compared: the tokens of a language model; the states of a model with a head, or its outputs.

    Args:
        distill: options; `match` null takes what suits the task.
        task: of the base.
        where: the key in params.yaml, for messages.

    Raises:
        UserError: the task has not what is to be compared.
    """
    if not isinstance(task, HeadTask):
        if distill.match == "states":
            raise UserError(f"{where}.match: got 'states', of a model without a head; take logits, or leave it out")
        return Tokens(distill)
    if distill.match != "logits":
        return States(distill)
    return Scores(distill) if task.numeric else Labels(distill)
