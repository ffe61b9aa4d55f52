"""DARE: drop deltas at random and rescale the rest, then average or TIES (Yu et al., arXiv 2311.03099)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from knowtune.merging.mixtures.base import Mixture

if TYPE_CHECKING:
    import torch


class Dare(Mixture):
    """Drop and rescale."""

    density: float = Field(default=0.5, gt=0, le=1, description="share of each tensor's deltas that stays")
    elect_sign: bool = Field(default=False, description="elect a sign per entry as TIES does")
    majority_sign: Literal["total", "frequency"] = Field(default="total", description="sum or count elects the sign")

    def combine(self, deltas: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Mix with PEFT's `dare_linear` or `dare_ties`; what is dropped follows the seed alone."""
        import torch
        from peft.utils.merge_utils import dare_linear, dare_ties

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The density 1.0 is")  # keeping everything is allowed here
            torch.manual_seed(generator_seed)
            if self.elect_sign:
                return dare_ties(deltas, weights * len(deltas), self.density, self.majority_sign)
            return dare_linear(deltas, weights, self.density)
