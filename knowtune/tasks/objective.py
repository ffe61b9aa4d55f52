"""Training objectives: the targets of a row, the loss of each, and targets as the model itself expects them.

A language model has one target a token that is learned; a model with a head has one a row, its label or score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Objective(ABC):
    """The loss of a task. It knows logits and targets, and nothing of models."""

    @abstractmethod
    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Return what the loss compares with, first dimension the batch."""

    @abstractmethod
    def target_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each target of a row, and 0 where nothing is learned  # (batch, targets)."""

    @abstractmethod
    def target_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Return which of `target_losses` belong to a target  # (batch, targets), bool."""

    def num_read(self, targets: torch.Tensor) -> int:
        """Count the last positions of a batch whose logits the losses need; 0: all there are."""
        return 0

    @abstractmethod
    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield targets that the model itself expects, each with the rows' weights  # (batch,); these sum to 1 per row.

        Args:
            logits: of the model, without gradient.
            targets: the true ones; what is not learned there is not drawn.
            draws: how many to draw where the targets cannot be enumerated.
            generators: one per row, on the CPU; what is drawn for a row depends on no other.
        """

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each row's loss, summed over its targets  # (batch,)."""
        return self.target_losses(logits, targets).sum(1)

    def num_targets(self, targets: torch.Tensor) -> torch.Tensor:
        """Count the targets of a batch: the loss of a step is the sum of losses over this."""
        return self.target_mask(targets).sum()
