"""How many tokens may share a forward and backward pass of a frozen model."""

from __future__ import annotations

import torch

MIN_TOKENS_CPU, MIN_TOKENS_GPU = 256, 2**14  # however small the model: below, a pass costs more than it saves


def tokens_per_pass(model: torch.nn.Module) -> int:
    """Say how many tokens may share a pass: so many that the matrices' inputs and outputs take half the weights' room.

    What else is kept for the backward pass takes about as much again. The fewer weights, the fewer tokens: a small
    model's activations would otherwise be many times its size. A GPU needs many tokens to be busy, and has the room.
    """
    matrices = [matrix for module in model.modules() if (matrix := _matrix(module)) is not None]
    width = sum(sum(matrix.shape) for matrix in matrices)  # floats a token
    least = MIN_TOKENS_CPU if all(p.device.type == "cpu" for p in model.parameters()) else MIN_TOKENS_GPU
    return max(least, sum(p.numel() for p in model.parameters()) // max(1, 2 * width))


def _matrix(module: torch.nn.Module) -> torch.Tensor | None:
    """Return the matrix that a module multiplies by; a lookup's table is none."""
    weight = getattr(module, "weight", None)
    matrix = isinstance(weight, torch.Tensor) and weight.ndim == 2 and not isinstance(module, torch.nn.Embedding)
    return weight if matrix else None
