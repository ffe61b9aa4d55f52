"""Training objectives: the targets of a row, the loss of each, and targets as the model itself expects them.

A language model has one target a token that is learned; a model with a head has one a row, its label or score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad

from knowtune.text import batches
from knowtune.text.batches import token_losses
from knowtune.text.encoded import IGNORE_INDEX


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


class NextToken(Objective):
    """Cross-entropy of the next token in nats. Targets are labels, -100 where nothing is learned  # (batch, seq)."""

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Return the labels  # (batch, seq)."""
        return batches.pad([row.labels for row in encoded], IGNORE_INDEX)

    def target_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each learned token, at the position of the token before it  # (batch, seq)."""
        return token_losses(logits, targets)

    def target_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Return True where the token after this one is learned  # (batch, seq)."""
        return pad(targets[:, 1:] != IGNORE_INDEX, (0, 1))

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Draw a token from the model at every learned position, after the true tokens before it."""
        learned = targets[:, 1:] != IGNORE_INDEX
        shares = logits[:, -targets.shape[1] :][:, :-1][learned].float().softmax(-1).cpu()  # (learned, vocabulary)
        of_rows = list(zip(shares.split(learned.sum(1).tolist()), generators, strict=True))
        for _ in range(draws):
            drawn = targets.clone()
            tokens = [
                torch.multinomial(own, 1, generator=own_generator).squeeze(1)
                for own, own_generator in of_rows
                if len(own)
            ]
            drawn[:, 1:][learned] = torch.cat(tokens).to(targets.device)
            yield drawn, torch.full((len(targets),), 1 / draws, device=targets.device)


class _OnePerRow(Objective):
    """An objective of a head: one target a row  # (batch,)."""

    def target_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Return True for every row  # (batch, 1)."""
        return torch.ones(len(targets), 1, dtype=torch.bool, device=targets.device)


class LabelCrossEntropy(_OnePerRow):
    """Cross-entropy of the label in nats; targets are the labels' numbers."""

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Return the labels' numbers  # (batch,)."""
        return torch.tensor([int(row.label) for row in encoded])

    def target_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy  # (batch, 1)."""
        return cross_entropy(logits.float(), targets, reduction="none").unsqueeze(1)

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield every label with its probability: exact."""
        shares = logits.float().softmax(-1)
        for number in range(logits.shape[-1]):
            yield torch.full_like(targets, number), shares[:, number]


class SquaredError(_OnePerRow):
    """Squared error of the score; targets are the scores."""

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Return the scores  # (batch,)."""
        return torch.tensor([row.label for row in encoded], dtype=torch.float32)

    def target_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the squared error  # (batch, 1)."""
        return (logits[:, :1].float() - targets.unsqueeze(1)).square()

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Draw scores around the model's with variance 1/2, whose -log p is the squared error, but for a constant."""
        for _ in range(draws):
            noise = torch.cat([torch.randn(1, generator=generator) for generator in generators]).to(logits.device)
            yield logits[:, 0].float() + noise / 2**0.5, torch.full_like(targets, 1 / draws)
