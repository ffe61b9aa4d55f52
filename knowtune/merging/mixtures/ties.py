"""TIES: trim small deltas, elect a sign per entry, average those that agree (Yadav et al., arXiv 2306.01708)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from knowtune.merging.mixtures.base import Mixture

if TYPE_CHECKING:
    import torch


class Ties(Mixture):
    """Trim, elect sign, disjoint mean."""

    density: float = Field(default=0.5, gt=0, le=1, description="share of each tensor's deltas that stays")
    majority_sign: Literal["total", "frequency"] = Field(default="total", description="sum or count elects the sign")

    def combine(self, deltas: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Mix with PEFT's `ties`."""
        from peft.utils.merge_utils import ties

        # PEFT means the weighted values that agree without dividing by the weights: weights of mean 1 keep the size.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The density 1.0 is")  # keeping everything is allowed here
            return ties(deltas, weights * len(deltas), self.density, self.majority_sign)
