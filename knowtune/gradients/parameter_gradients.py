"""Per-example gradients of one parameter, in the form that costs least: factors, looked-up rows, or dense.

The factors are a layer's activations and output gradients, as ghost clipping keeps them, too: no gradient of the size
(batch x parameter) is made. Blocks of it are, one after the other, and they stay in the CPU's cache: the products are
bound by memory traffic otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

CPU_TILE = 2**18  # floats a thread: 1 MiB of as many examples as fit; larger and smaller ones cost more
GPU_TILE = 2**26  # floats: 256 MiB
MAX_ACTIVE_SHARE = 0.75  # of tokens with a gradient; above it, leaving out the others costs more than it saves


class OuterProducts:
    """Gradients of a matrix: per example, left^T right, the sum over tokens of outer products.

    Args:
        left: output gradients of a linear layer (activations, where the layer holds its matrix transposed)
            # (batch, tokens, rows).
        right: the other of the two  # (batch, tokens, columns).
        output_gradient: that of the two which is zero for tokens that teach nothing.
    """

    def __init__(self, left: torch.Tensor, right: torch.Tensor, output_gradient: torch.Tensor) -> None:
        """Find the tokens whose output gradient is not zero."""
        self.left, self.right = left.float(), right.float()
        # A product with an uneven vector is zero for rows of zeros alone, and costs one read; a norm, ten times that.
        width, dtype, device = output_gradient.shape[-1], output_gradient.dtype, output_gradient.device
        uneven = torch.linspace(0.5, 1.5, width, dtype=dtype, device=device).square_()
        active = output_gradient @ uneven != 0  # (batch, tokens)
        sparse = (active.sum(1) < MAX_ACTIVE_SHARE * active.shape[1]).tolist()
        self.active = [tokens.nonzero().squeeze(1) if few else None for tokens, few in zip(active, sparse, strict=True)]

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        return self.left.device

    def add_to(self, block: torch.Tensor, first: int, start: int, *, overwrite: bool) -> None:
        """Add to a block of gradients, or write it.

        Args:
            block: gradients of some examples over some rows of the parameter  # (examples, rows, columns).
            first: number of the block's first example in the batch.
            start: the block's first row.
            overwrite: whether what is in the block counts for nothing.
        """
        count, num_rows, _ = block.shape
        if count == 1:
            left, right = self._of_one(first)
            part = left[:, start : start + num_rows].t() if num_rows < left.shape[1] else left.t()
            torch.mm(part, right, out=block[0]) if overwrite else block[0].addmm_(part, right)
            return
        left = self.left[first : first + count, :, start : start + num_rows].transpose(1, 2)
        right = self.right[first : first + count]
        torch.bmm(left, right, out=block) if overwrite else block.baddbmm_(left, right)

    def _of_one(self, example: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one example's factors, without tokens that teach nothing (padding, prompts at the output head)."""
        tokens = self.active[example]
        if tokens is None:
            return self.left[example], self.right[example]
        return self.left[example, tokens], self.right[example, tokens]


class EmbeddingGradients:
    """Gradients of an embedding: per example, the output gradients of its tokens, added up by token id.

    Args:
        ids: of the tokens  # (batch, tokens).
        output_gradient: of the embedding  # (batch, tokens, columns).
        padding: id whose row torch gives no gradient, or None.
    """

    def __init__(self, ids: torch.Tensor, output_gradient: torch.Tensor, padding: int | None) -> None:
        """Leave the padding's gradient out."""
        self.ids, self.output_gradient = ids, output_gradient.float()
        if padding is not None:
            self.output_gradient = self.output_gradient * (ids != padding).unsqueeze(-1)

    @property
    def device(self) -> torch.device:
        """Where the gradients are."""
        return self.output_gradient.device

    def add_to(self, block: torch.Tensor, first: int, start: int, *, overwrite: bool) -> None:
        """See `OuterProducts.add_to`."""
        if overwrite:
            block.zero_()
        for number, gradients in enumerate(block):
            ids = self.ids[first + number] - start
            inside = (ids >= 0) & (ids < block.shape[1])
            gradients.index_add_(0, ids[inside], self.output_gradient[first + number][inside])

    def rows(self, num_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the rows that are not zero: their gradients, the example and the number of each.

        Args:
            num_rows: of the embedding.
        """
        offsets = torch.arange(len(self.ids), device=self.ids.device).unsqueeze(1) * num_rows
        keys, inverse = (self.ids + offsets).flatten().unique(return_inverse=True)
        sums = self.output_gradient.new_zeros(len(keys), self.output_gradient.shape[-1])
        sums.index_add_(0, inverse, self.output_gradient.flatten(0, 1))
        return sums, keys // num_rows, keys % num_rows


class DenseGradients:
    """Gradients of a small parameter (a bias, a norm's weight), in full  # (batch, *shape)."""

    def __init__(self, gradients: torch.Tensor) -> None:
        """Take them in float32."""
        self.gradients = gradients.float()

    @property
    def device(self) -> torch.device:
        """Where the gradients are."""
        return self.gradients.device

    def add_to(self, block: torch.Tensor, first: int, start: int, *, overwrite: bool) -> None:
        """See `OuterProducts.add_to`."""
        rows = self.gradients.view(len(self.gradients), -1, block.shape[-1])
        part = rows[first : first + len(block), start : start + block.shape[1]]
        block.copy_(part) if overwrite else block.add_(part)


ParameterGradients = OuterProducts | EmbeddingGradients | DenseGradients


def tiles(batch: int, rows: int, columns: int, device: torch.device) -> Iterator[tuple[int, int, int, int]]:
    """Cut (batch, rows) into blocks that fit the cache: first example, examples, first row, rows."""
    size = GPU_TILE if device.type != "cpu" else CPU_TILE * torch.get_num_threads()
    height = math.ceil(rows / math.ceil(rows * columns / size))
    count = max(1, min(batch, size // (height * columns)))
    for start in range(0, rows, height):
        for first in range(0, batch, count):
            yield first, min(count, batch - first), start, min(height, rows - start)
