"""Accumulators of squared per-example gradients: over examples (Fisher diagonal) or over parameters (norms)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch


class Accumulator(Protocol):
    """Takes the gradients of a batch's examples, block by block, and adds something up over them."""

    def begin(self, batch: list[int]) -> None:
        """Say which examples the next gradients belong to."""

    def add_block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Take a block.

        Args:
            name: of the parameter.
            gradients: float32, may be overwritten  # (examples, entries).
            first: number of the block's first example in the batch.
            start: flat index of the block's first entry.
        """

    def add_rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Take whole rows of an embedding, each of one example; all other rows of the batch are zero.

        Args:
            name: of the parameter.
            gradients: float32, may be overwritten  # (pairs, columns).
            examples: of each pair, sorted  # (pairs,).
            rows: of each pair  # (pairs,).
        """

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums themselves, to be saved, reduced over processes and written into."""


class FisherDiagonal:
    """Squared gradients, summed over examples: one number per parameter entry."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], sign: float = 1.0) -> None:
        """Start at zero."""
        self.sums = {name: torch.zeros(p.shape, dtype=torch.float32, device=p.device) for name, p in parameters.items()}
        self.sign = sign

    def begin(self, batch: list[int]) -> None:
        """Examples do not matter here."""

    def add_block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Square and add."""
        total = self.sums[name].view(-1)[start : start + gradients.shape[1]]
        if gradients.device.type == "cpu":  # one read of the block; a square of its own would be another and a write
            for gradient in gradients:
                total.addcmul_(gradient, gradient, value=self.sign)
        else:
            total.add_(gradients.square_().sum(0), alpha=self.sign)

    def add_rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Square and add to the rows."""
        self.sums[name].index_add_(0, rows, gradients.square_(), alpha=self.sign)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums by parameter."""
        return self.sums


class SquaredNorms:
    """Squared norms of the gradients, over a mask or over all parameters: one number per example."""

    def __init__(
        self, num_rows: int, parameters: Mapping[str, torch.nn.Parameter], mask: Mapping[str, torch.Tensor] | None
    ) -> None:
        """Start at zero."""
        self.sums = torch.zeros(num_rows, dtype=torch.float64)
        self.parameters, self.mask = parameters, mask
        self.batch: list[int] = []
        self.dense_masks: dict[str, torch.Tensor] = {}  # of embeddings, as truth values

    def begin(self, batch: list[int]) -> None:
        """Remember whose gradients come."""
        self.batch = batch

    def add_block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Square and add what the mask keeps of the block."""
        if self.mask is not None:
            indices = self.mask[name]
            begin, end = torch.searchsorted(indices, torch.tensor([start, start + gradients.shape[1]])).tolist()
            gradients = gradients[:, (indices[begin:end] - start).to(gradients.device)]
        self.sums[self.batch[first : first + len(gradients)]] += gradients.square().sum(1).double().cpu()

    def add_rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Square and add what the mask keeps of the rows."""
        gradients.square_()
        if self.mask is not None:
            if name not in self.dense_masks:
                p = self.parameters[name]
                self.dense_masks[name] = torch.zeros(p.shape, dtype=torch.bool, device=p.device)
                self.dense_masks[name].view(-1)[self.mask[name].to(p.device)] = True
            gradients *= self.dense_masks[name][rows]
        sums = torch.zeros(len(self.batch), dtype=torch.float64, device=gradients.device)
        self.sums[self.batch] += sums.index_add_(0, examples, gradients.sum(1).double()).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums by example."""
        return {"squared_norms": self.sums}
