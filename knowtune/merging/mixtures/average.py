"""Weighted average of task vectors (task arithmetic; Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.merging.mixtures.base import Mixture

if TYPE_CHECKING:
    import torch


class Average(Mixture):
    """delta = sum_k w_k delta_k."""

    def combine(self, deltas: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Average with PEFT's `task_arithmetic`."""
        from peft.utils.merge_utils import task_arithmetic

        return task_arithmetic(deltas, weights)
