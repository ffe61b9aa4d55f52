"""Arithmetic on the entries of a matrix: change them for the time of one operation, and take gradients at them only.

    g_j = sum_n L[n, row_j] R[n, col_j]      L: (tokens, rows), R: (tokens, cols); the gradient of L^T R at the entries

Two ways lead to g. *Sampled* is one dot product per entry (`torch.sparse.sampled_addmm`). *Dense* is the whole product
of the rows and columns that have entries, in tiles of rows that stay in the cache, of which the entries are taken.
Measured on one core of an AMD EPYC (Zen 4, AVX-512, 1024 tokens, float32): dense makes 50 entries in a nanosecond per
token, a dot product costs as much as 4 of those, and making a row or a column contiguous over tokens, as the sampled
way needs, as much as 40. All at once, the two met at 13 % of the entries for 384x384, 19 % for 1536x384, 15 % for
192x192; 256 tokens at once move that up a little.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch

DOT_COST = 4  # of one sampled entry, in entries of a dense product
LINE_COST = 40  # of making one row or column contiguous over tokens
TOKENS_AT_ONCE = 256  # of the sampled way; 128 or 512 are no better, all at once is up to 45 % slower
TILE_BYTES = 2**20  # of the dense way: its product is made in tiles of this size


class Entries:
    """Entries of a parameter seen as a matrix, and what follows from them, made when first needed.

    Args:
        indices: flat, in order, each once  # (entries,)
        shape: of the parameter; the last dimension counts as columns.
    """

    def __init__(self, indices: torch.Tensor, shape: torch.Size) -> None:
        self.indices = indices
        self.num_cols = shape[-1] if len(shape) > 1 else shape.numel()
        self.num_rows = shape.numel() // max(self.num_cols, 1)

    @cached_property
    def starts(self) -> torch.Tensor:
        """Where each row's entries begin  # (rows + 1,)."""
        edges = torch.arange(self.num_rows + 1, device=self.indices.device) * self.num_cols
        return torch.searchsorted(self.indices, edges)

    @cached_property
    def rows(self) -> torch.Tensor | None:
        """The rows that have entries, or None where nearly all have."""
        used = self.starts.diff().nonzero().flatten()
        return used if len(used) < 0.9 * self.num_rows else None

    @cached_property
    def cols(self) -> torch.Tensor | None:
        """The columns that have entries, or None where nearly all have."""
        seen = torch.zeros(self.num_cols, dtype=torch.bool, device=self.indices.device)
        seen[self.indices % self.num_cols] = True
        used = seen.nonzero().flatten()
        return used if len(used) < 0.9 * self.num_cols else None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the matrix that is left."""
        rows = self.num_rows if self.rows is None else len(self.rows)
        return rows, self.num_cols if self.cols is None else len(self.cols)

    @cached_property
    def sampled(self) -> bool:
        """Whether one dot product per entry costs less than the dense product; measured for CPUs, never elsewhere."""
        rows, cols = self.size
        return (
            self.indices.device.type == "cpu" and DOT_COST * len(self.indices) + LINE_COST * (rows + cols) < rows * cols
        )

    @cached_property
    def new_cols(self) -> torch.Tensor | None:
        """Each column's number among those that have entries, or None where nearly all have  # (cols,)."""
        if self.cols is None:
            return None
        new_cols = torch.zeros(self.num_cols, dtype=torch.int32, device=self.indices.device)
        new_cols[self.cols] = torch.arange(len(self.cols), dtype=torch.int32, device=self.indices.device)
        return new_cols

    def structure(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row starts and columns of the matrix that is left, as CSR; made anew, as keeping them takes memory."""
        cols = self.indices % self.num_cols
        starts = self.starts if self.rows is None else torch.cat([self.starts[self.rows], self.starts[-1:]])
        return starts.int(), cols.int() if self.new_cols is None else self.new_cols[cols]

    def gradient(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return L^T R at the entries.

        Args:
            left: (tokens, rows).
            right: (tokens, cols).
        """
        if self.sampled and left.dtype in (torch.float32, torch.float64):
            return self.by_dots(left, right)
        return self.by_tiles(left, right)

    def by_dots(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The sampled way."""
        starts, cols = self.structure()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once per process that CSR is in beta
            sums = torch.sparse_csr_tensor(
                starts, cols, left.new_zeros(len(cols)), size=self.size, check_invariants=False
            )
        for begin in range(0, len(left), TOKENS_AT_ONCE):
            some, other = left[begin : begin + TOKENS_AT_ONCE], right[begin : begin + TOKENS_AT_ONCE]
            some = some if self.rows is None else some.index_select(1, self.rows)
            other = other if self.cols is None else other.index_select(1, self.cols)
            torch.sparse.sampled_addmm(sums, some.t().contiguous(), other.t().contiguous().t(), out=sums)
        values: torch.Tensor = sums.values()
        return values

    def by_tiles(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The dense way."""
        starts, cols = self.structure()
        num_rows, num_cols = self.size
        right = right if self.cols is None else right.index_select(1, self.cols)
        height = max(1, TILE_BYTES // (right.element_size() * num_cols))
        parts = []
        for top in range(0, num_rows, height):
            low = min(top + height, num_rows)
            some = left[:, top:low] if self.rows is None else left.index_select(1, self.rows[top:low])
            begin, end = int(starts[top]), int(starts[low])
            heights = starts[top : low + 1].diff().long()
            lines = torch.repeat_interleave(
                torch.arange(low - top, device=left.device), heights, output_size=end - begin
            )
            parts.append((some.t() @ right).take(lines.mul_(num_cols).add_(cols[begin:end])))
        return torch.cat(parts)


def add_values(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return weights plus values, added in the wider of their types and rounded once to the weights'."""
    return weights.add(values).to(weights.dtype)


@contextmanager
def write_temporarily(weight: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> Iterator[torch.Tensor]:
    """Let a weight be the changed one within a block; afterwards it is what it was, bit for bit.

    The weight is written where it lies, so that no copy of it is needed, past autograd: it is never seen changed.
    """
    flat = weight.data.view(-1)
    originals = flat.index_select(0, indices)
    try:
        flat.index_copy_(0, indices, add_values(originals, values))
        yield weight.data
    finally:
        flat.index_copy_(0, indices, originals)
