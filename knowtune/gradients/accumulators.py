"""Sums of squared gradients: over the examples, one number per parameter; over the parameters, one per example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from knowtune.gradients.per_example import Consumer


class Sums(Consumer, Protocol):
    """What is added up over the examples."""

    def begin(self, batch: list[int]) -> None:
        """Say which examples the next gradients belong to."""

    def state(self) -> dict[str, torch.Tensor]:
        """Give the sums themselves, to be saved, reduced and written into."""


class Diagonal:
    """Squared gradients, summed over examples: one number per parameter."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], sign: float = 1.0) -> None:
        """Start at zero."""
        self.sums = {name: torch.zeros(p.shape, dtype=torch.float32, device=p.device) for name, p in parameters.items()}
        self.sign = sign

    def begin(self, batch: list[int]) -> None:
        """Examples do not matter here."""

    def block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Square and add."""
        total = self.sums[name].view(-1)[start : start + gradients.shape[1]]
        if gradients.device.type == "cpu":  # one read of the block; a square of its own would be another and a write
            for gradient in gradients:
                total.addcmul_(gradient, gradient, value=self.sign)
        else:
            total.add_(gradients.square_().sum(0), alpha=self.sign)

    def rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Square and add to the rows."""
        self.sums[name].index_add_(0, rows, gradients.square_(), alpha=self.sign)

    def state(self) -> dict[str, torch.Tensor]:
        """Give the sums by parameter."""
        return self.sums


class Traces:
    """Squared gradients, summed over a mask or over all parameters: one number per example."""

    def __init__(
        self, num_rows: int, parameters: Mapping[str, torch.nn.Parameter], mask: Mapping[str, torch.Tensor] | None
    ) -> None:
        """Start at zero."""
        self.sums = torch.zeros(num_rows, dtype=torch.float64)
        self.parameters, self.mask = parameters, mask
        self.batch: list[int] = []
        self.kept: dict[str, torch.Tensor] = {}  # masks of embeddings as truth values

    def begin(self, batch: list[int]) -> None:
        """Remember whose gradients come."""
        self.batch = batch

    def block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Square and add what the mask keeps of the block."""
        if self.mask is not None:
            indices = self.mask[name]
            begin, end = torch.searchsorted(indices, torch.tensor([start, start + gradients.shape[1]])).tolist()
            gradients = gradients[:, (indices[begin:end] - start).to(gradients.device)]
        self.sums[self.batch[first : first + len(gradients)]] += gradients.square().sum(1).double().cpu()

    def rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Square and add what the mask keeps of the rows."""
        gradients.square_()
        if self.mask is not None:
            if name not in self.kept:
                p = self.parameters[name]
                self.kept[name] = torch.zeros(p.shape, dtype=torch.bool, device=p.device)
                self.kept[name].view(-1)[self.mask[name].to(p.device)] = True
            gradients *= self.kept[name][rows]
        sums = torch.zeros(len(self.batch), dtype=torch.float64, device=gradients.device)
        self.sums[self.batch] += sums.index_add_(0, examples, gradients.sum(1).double()).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Give the sums by example."""
        return {"traces": self.sums}
