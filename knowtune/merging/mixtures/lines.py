"""LiNeS: keep the more of a change, the deeper its layer (Wang et al., arXiv 2410.17146).

    lambda_l = alpha + beta (l - 1) / (L - 1)

    l, L    number of a transformer block, counted from 1, and how many there are
    lambda  share of the block's task vector that is kept

Shallow blocks hold what is general, so they go back towards the base, and deep ones keep what they learned. What stands
outside of the blocks (embeddings, the last norm, an output layer of its own) gets alpha, as in the authors' code. For
one model they set beta = 1 - alpha (null here), so that the last block is kept whole, and choose alpha on held-out
data. With alpha + beta above 1 deep blocks go beyond the tuned model; beyond the average of several this is the way to
their sum, which the paper scales.

Departures: of several runs the weighted average of the task vectors is scaled, where the paper scales their sum with
an alpha of its own; a classifier's head is kept whole, for the base has none to go back to (theirs is not trained).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from knowtune.merging.mixtures.base import Mixture, Position


class Lines(Mixture):
    """Scale each block's change by its depth."""

    alpha: float = Field(default=0.0, ge=0, le=1, description="share of the first block's change, and outside of them")
    beta: float | None = Field(
        default=None, ge=0, le=2, description="how much more of the last block's; null: 1 - alpha, so that it is whole"
    )

    fewest_runs: ClassVar[int] = 1

    def kept_share(self, position: Position) -> float:
        """Return lambda_l; alpha outside of the blocks, 1 in a classifier's head.

        Raises:
            ValueError: the model has a single block, or none, so that nothing is deeper than something else.
        """
        if position.in_head:
            return 1.0
        if position.block is None:
            return self.alpha
        if position.num_blocks < 2:
            raise ValueError("lines needs several blocks; interpolate scales all weights alike")
        beta = 1 - self.alpha if self.beta is None else self.beta
        return self.alpha + beta * ((position.block - 1) / (position.num_blocks - 1))
