"""What every mixture can do: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from knowtune.registry import Member


class Mixture(Member):
    """Mixes several tuned models of one base by their task vectors, one tensor at a time."""

    @abstractmethod
    def combine(self, deltas: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Return the delta of the mixture.

        Args:
            deltas: one tensor of each task vector, (tuned - base), float32, all of one shape.
            weights: (models,), sum 1.
            generator_seed: seed for what is random in the mixture; differs per tensor.
        """
