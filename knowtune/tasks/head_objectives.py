"""Objectives of a model with a head: one target a row, its label or its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from knowtune.tasks.objective import Objective


class OneTarget(Objective):
    """An objective of a head: one target a row  # (batch,)."""

    def target_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Return True for every row  # (batch, 1)."""
        return torch.ones(len(targets), 1, dtype=torch.bool, device=targets.device)


class LabelCrossEntropy(OneTarget):
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


class SquaredError(OneTarget):
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
