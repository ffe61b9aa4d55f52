"""Weighted average of changes (task arithmetic; Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.merging.mixtures.base import Mixture

if TYPE_CHECKING:
    import torch


class Average(Mixture):
    """change = sum_k w_k change_k."""

    def combine(self, changes: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Average with PEFT's `task_arithmetic`."""
        from peft.utils.merge_utils import task_arithmetic

        return task_arithmetic(changes, weights)
