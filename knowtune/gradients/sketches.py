"""Gradient sketches: each row's training gradient as a few numbers, whose cosines are those of the gradients.

    s_b = sum_l  H_l vec( P_l D_bl^T X_bl Q_l^T )         E<s_b, s_c> = sum_l <G_bl, G_cl>,   G_bl = D_bl^T X_bl

b, l      a row, and a linear layer of the pristine base (the output head left out, as adapters of all linear layers do)
D_bl      gradient of the row's training loss by the layer's output   (tokens, out); frozen weights suffice for it
X_bl      the layer's input                                           (tokens, in)
P_l, Q_l  Gaussian, entries of variance 1 / side                      (side, out), (side, in); side = 4 sqrt(dimensions)
H_l       adds each of the side^2 numbers, with a random sign, to a random one of `dimensions`

The two-sided projection of a layer's gradient is that of LoGra (Choe et al., arXiv 2405.13954), which goes on to an
inverse Hessian; we need cosines alone. H is a count sketch (Charikar, Chen, Farach-Colton, ICALP 2002): one random
matrix over the numbers of all layers, with one entry a column, so that it need not be held. Where a side of a layer is
no longer than `side` it is not projected. The error of a cosine falls as 1 / sqrt(dimensions): about 0.06 at 256.

Cost: one forward and one backward pass of the frozen base (about two thirds of a training step) and, per token and
layer, side (in + out + side) multiplications against the layer's in x out. 4 x dimensions bytes a row on disk; in
memory a batch, and the projections: side (in + out) numbers a layer. Nothing of the size rows x parameters is ever
held. `benchmarks/semantics.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from knowtune.common.errors import UserError
from knowtune.common.files import text_digest
from knowtune.common.progress import progress
from knowtune.gradients.per_example import PerExampleGradients
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from knowtune.tasks.base import Task

TOLERANCE = 1e-3  # relative; what the check of two examples allows before one example a pass is taken


class Sketcher(PerExampleGradients):
    """Projects the gradients of a batch's rows while they arrive. Use it as a context.

    Args:
        model: a base; float32, bfloat16 or quantised.
        dimensions: numbers of a sketch.
        seed: of the projections. They depend on the names and sizes of the layers, and not on rows or batches.
    """

    def __init__(self, model: PreTrainedModel, dimensions: int, seed: int) -> None:
        """Find the linear layers."""
        body = set(model.base_model.modules())  # a head is outside: a language model's, or a classifier's, which is new
        kinds = (nn.Linear, Conv1D)
        self.layers = {n: m for n, m in model.named_modules() if isinstance(m, kinds) and m in body}
        super().__init__(model, {f"{name}.weight": layer.weight for name, layer in self.layers.items()})  # type: ignore[misc]
        self.dimensions, self.seed = dimensions, seed
        self.side = 4 * math.ceil(math.sqrt(dimensions))
        self.projections: dict[tuple[str, str], torch.Tensor | None] = {}
        self.count_sketches: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def _prepare(self) -> None:
        """Hook the layers."""
        for name, layer in self.layers.items():
            self.hooks.append(layer.register_forward_hook(lambda m, x, y, name=name: self._on_forward(name, x[0], y)))

    def sketch(self, rows: Sequence[Any], task: Task) -> torch.Tensor:
        """Sketch the gradients of the rows' training losses, each summed over the row's target tokens or its label.

        Args:
            rows: encoded, each with a target.
            task: whose loss it is.

        Returns:
            float32, on the CPU  # (rows, dimensions).
        """
        device = next(self.model.parameters()).device
        self.sums = torch.zeros(len(rows), self.dimensions, device=device)
        with torch.enable_grad():
            logits = self.model(**{name: x.to(device) for name, x in task.inputs(rows).items()}).logits
            loss = task.objective.losses(logits, task.objective.targets(rows).to(device)).sum()
        if loss.requires_grad:
            loss.backward()
        return self.sums.cpu()

    def _on_forward(self, name: str, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Project a layer's input, and wait for the gradient of its output."""
        if not output.requires_grad:
            output = output.detach().requires_grad_(True).clone()  # no operation in place may change a leaf
        x = self._project(name, "in", inputs.detach())
        output.register_hook(lambda gradient: self._on_output_gradient(name, x, gradient.detach()))
        return output

    @torch.no_grad()
    def _on_output_gradient(self, name: str, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a layer's gradients to the sketches."""
        d = self._project(name, "out", gradient)
        batch = len(self.sums)
        if x.shape[0] != d.shape[0] or d.shape[0] % batch:
            raise UserError(
                f"sketches: layer {name} sees {d.shape[0]} rows for {batch} examples; allowed: whole examples"
            )
        d, x = d.reshape(batch, -1, d.shape[-1]), x.reshape(batch, -1, x.shape[-1])  # (batch, tokens, side)
        numbers = (d.transpose(1, 2) @ x).flatten(1)  # (batch, side * side)
        buckets, signs = self._count_sketch(name, numbers)
        self.sums.index_add_(1, buckets, numbers * signs)

    def _project(self, name: str, side: str, values: torch.Tensor) -> torch.Tensor:
        """Project the last dimension, where it is longer than a side."""
        key, size = (name, side), values.shape[-1]
        if key not in self.projections:
            drawn = torch.randn(size, self.side, generator=self._generator(name, side)) / math.sqrt(self.side)
            self.projections[key] = drawn.to(values.device) if size > self.side else None
        projection = self.projections[key]
        return values.float() if projection is None else values.float() @ projection

    def _count_sketch(self, name: str, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Assign each of a layer's numbers to a bucket, one of the dimensions, with a sign."""
        if name not in self.count_sketches:
            generator, size = self._generator(name, "sum"), numbers.shape[1]
            buckets = torch.randint(self.dimensions, (size,), generator=generator)
            signs = torch.randint(2, (size,), generator=generator) * 2.0 - 1.0
            self.count_sketches[name] = buckets.to(numbers.device), signs.to(numbers.device)
        return self.count_sketches[name]

    def _generator(self, name: str, part: str) -> torch.Generator:
        """Make a generator of its own for each layer and part, so that no result depends on an order."""
        return torch.Generator().manual_seed(int(text_digest([self.seed, name, part])[:15], 16))


def sketch_rows(
    sketcher: Sketcher, rows: Sequence[Any], task: Task, batch_size: int, label: str, ids: Sequence[str] | None = None
) -> torch.Tensor:
    """Sketch rows in batches of like length.

    Args:
        sketcher: inside its context.
        rows: encoded.
        task: whose loss it is.
        batch_size: rows of a pass; no result depends on it but by rounding.
        label: what the progress bar says.
        ids: of the rows, for an error.

    Returns:
        float32; zeros for a row without a target, which teaches nothing  # (rows, dimensions).

    Raises:
        UserError: a gradient is not finite.
    """
    sketches = torch.zeros(len(rows), sketcher.dimensions)
    some = [i for i, row in enumerate(rows) if row.has_target]
    if some and batch_size > 1 and not _batching_is_exact(sketcher, [rows[i] for i in (some * 2)[:2]], task):
        batch_size = 1
    for batch in progress(batches_by_length([len(rows[i].input_ids) for i in some], batch_size), label):
        positions = [some[i] for i in batch]
        sketches[positions] = sketcher.sketch([rows[i] for i in positions], task)
    odd = (~sketches.isfinite().all(1)).nonzero().flatten().tolist()
    if odd:
        name = repr(ids[odd[0]]) if ids is not None else f"number {odd[0]}"
        raise UserError(
            f"{label}: the gradient of row {name} is not finite; look at this row, or use float32 (compute.dtype)"
        )
    return sketches


def _batching_is_exact(sketcher: Sketcher, pair: Sequence[Any], task: Task) -> bool:
    """Compare two rows in one pass with each alone: experts, e.g., may see the tokens of several rows in any order."""
    alone = torch.cat([sketcher.sketch([row], task) for row in pair])
    try:
        both = sketcher.sketch(pair, task)
    except UserError:
        return False
    return bool((both - alone).norm() <= TOLERANCE * alone.norm()) or not bool(alone.isfinite().all())
