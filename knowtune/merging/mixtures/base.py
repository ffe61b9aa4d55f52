"""What every mixture can do: the family's base class.

Every mixture is theta0 + lambda * combine(theta_1 - theta0, ..., theta_k - theta0), tensor by tensor: `combine` makes
one task vector of several, and `kept_share` is lambda, how much of it is kept where the tensor stands in the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch

from knowtune.registry import Member


@dataclass(frozen=True)
class Position:
    """Where a tensor stands in the model.

    Args:
        block: number of its transformer block, counted from 1; None for a tensor outside of the blocks.
        num_blocks: how many the stack has; 0 outside of it.
        in_head: whether it belongs to a classifier's head, for which the base has nothing to go back to.
    """

    block: int | None
    num_blocks: int
    in_head: bool = False


class Mixture(Member):
    """Mixes several tuned models of one base by their task vectors, one tensor at a time."""

    fewest_runs: ClassVar[int] = 2  # 1: a single run is no average but that run, and its weights come in bit for bit

    def combine(self, deltas: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Return the delta of the mixture; where a member has no way of its own, the weighted average by PEFT.

        Args:
            deltas: one tensor of each task vector, (tuned - base), float32, all of one shape.
            weights: (models,), sum 1.
            generator_seed: seed for what is random in the mixture; differs per tensor.
        """
        from peft.utils.merge_utils import task_arithmetic

        return task_arithmetic(deltas, weights)

    def kept_share(self, position: Position) -> float:
        """Return lambda, the share of the delta that is kept: 0 leaves the base's tensor, 1 takes the whole delta."""
        return 1.0

    @property
    def choice(self) -> Choice | None:
        """Say which mixtures one is chosen of; None where there is nothing to choose."""
        return None


@dataclass(frozen=True)
class Choice:
    """Mixtures of which one is chosen on rows that no metric measures.

    Args:
        candidates: by their alpha, how far each goes from the base; in ascending order.
        max_forgotten: share of the known rows that a chosen one may forget.
    """

    candidates: Mapping[float, Mixture]
    max_forgotten: float
