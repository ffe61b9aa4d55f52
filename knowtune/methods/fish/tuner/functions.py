"""Differentiable operations with a sparsely changed weight: no copy of it forward, no dense gradient of it backward."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from knowtune.methods.fish.tuner.sparse import Entries, add_values, write_temporarily


class SparseLinear(torch.autograd.Function):
    """y = x (W + S)^T + b, or y = x (W + S) + b where the weight lies transposed; S holds the values."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values: torch.Tensor,
        bias: torch.Tensor | None,
        weight: torch.Tensor,
        entries: Entries,
        transposed: bool,
    ) -> torch.Tensor:
        """Multiply.

        Args:
            ctx: of autograd.
            x: (..., in).
            values: (entries,).
            bias: (out,), of x's type, or None.
            weight: (out, in), or (in, out) where `transposed`; frozen.
            entries: where the values are.
            transposed: as in GPT-2's Conv1D.
        """
        ctx.save_for_backward(x, values, weight)
        ctx.entries, ctx.transposed = entries, transposed
        with write_temporarily(weight, entries.indices, values) as written_weight:
            matrix = written_weight.to(x.dtype)
            if not transposed:
                return functional.linear(x, matrix, bias)
            flat = x.reshape(-1, x.shape[-1])
            y = flat @ matrix if bias is None else torch.addmm(bias, flat, matrix)
            return y.view(*x.shape[:-1], matrix.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, delta: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of x, values and bias; delta: (..., out)."""
        x, values, weight = ctx.saved_tensors
        dx = dvalues = dbias = None
        if ctx.needs_input_grad[0]:
            with write_temporarily(weight, ctx.entries.indices, values) as written_weight:
                matrix = written_weight.to(delta.dtype)
                dx = delta @ (matrix.t() if ctx.transposed else matrix)
        delta, x = delta.reshape(-1, delta.shape[-1]), x.reshape(-1, x.shape[-1])
        if ctx.needs_input_grad[1]:
            left, right = (x, delta) if ctx.transposed else (delta, x)
            dvalues = ctx.entries.gradient(left, right).to(values.dtype)
        if ctx.needs_input_grad[2]:
            dbias = delta.sum(0)
        return dx, dvalues, dbias, None, None, None


class SparseEmbedding(torch.autograd.Function):
    """Rows of W + S by their ids; S holds the values."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: torch.Tensor,
        values: torch.Tensor,
        weight: torch.Tensor,
        entries: Entries,
        padding: int | None,
    ) -> torch.Tensor:
        """Look up.

        Args:
            ctx: of autograd.
            ids: whole numbers, any shape.
            values: (entries,).
            weight: (rows, hidden); frozen.
            entries: where the values are.
            padding: the row that gets no gradient.
        """
        ctx.save_for_backward(ids, values)
        ctx.entries, ctx.padding = entries, padding
        with write_temporarily(weight, entries.indices, values) as written_weight:
            return functional.embedding(ids, written_weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, delta: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Return the gradient of the values; delta: (..., hidden).

        The gradients of equal ids are added first, in a table as long as the batch has different ids; only entries of
        its rows are looked up.
        """
        ids, values = ctx.saved_tensors
        entries: Entries = ctx.entries
        used, inverse = ids.flatten().unique(return_inverse=True)
        wide = torch.promote_types(delta.dtype, torch.float32)
        table = delta.new_zeros(len(used), entries.num_cols, dtype=wide)  # (used ids, hidden)
        table.index_add_(0, inverse, delta.reshape(-1, entries.num_cols).to(wide))
        if ctx.padding is not None:
            table[used == ctx.padding] = 0
        begins = entries.starts[used]
        counts = entries.starts[used + 1] - begins
        lines = torch.repeat_interleave(counts)  # (touched entries,), the row of the table
        shifts = begins - (counts.cumsum(0) - counts)
        touched = torch.arange(len(lines), device=ids.device) + shifts[lines]
        gradients = table[lines, entries.indices[touched] % entries.num_cols]
        dvalues = torch.zeros_like(values)
        dvalues[touched] = gradients.to(values.dtype)
        return None, dvalues, None, None, None


def with_values(parameter: torch.Tensor, entries: Entries, values: torch.Tensor) -> torch.Tensor:
    """Return a changed copy of a parameter, differentiable: for what is small, and for modules not known here."""
    flat = parameter.reshape(-1)
    return flat.scatter(0, entries.indices, add_values(flat.gather(0, entries.indices), values)).view_as(parameter)
