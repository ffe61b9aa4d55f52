"""How much each row, or each of its tokens, counts in the loss, by semantic distance.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.

    linear        w_i = 1 + alpha (d_i - mean d) / std d      all 1 where std d = 0
    exponential   w_i = exp(alpha (d_i - mean d))             alpha = 1 / tau
    then          w_i <- clip(w_i, lowest, highest),   w_i <- w_i sum_j n_j / sum_j w_j n_j

d_i     distance of row i (or of a token), see `knowtune.semantics.distance`; over the rows that survived filter and
selection
n_i     target tokens of row i (1 of a token): the token-weighted mean of the weights is 1

The mean is subtracted in the exponent too. It cancels where nothing is clipped, and makes both forms centre on 1, so
that the bounds mean the same whatever the level of the distances. After normalising, weights may lie outside of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from knowtune.common.errors import UserError
from knowtune.registry import Member

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

SAME = 1e-6  # a spread of distances, which lie in [0, 2], that is no more than rounding


class Weighting(Member):
    """Options of the weights: `runs.NAME.reweight`."""

    form: Literal["linear", "exponential"] = Field(default="linear", description="see knowtune/training/weights.py")
    alpha: float = Field(
        default=-0.5, ge=-100, le=100, description="positive: the far count more; negative: less; 0: all alike"
    )
    lowest: float = Field(default=0.2, ge=1e-6, le=1, description="weights are clipped before they are normalised")
    highest: float = Field(default=5.0, ge=1, le=1e6, description="weights are clipped before they are normalised")
    granularity: Literal["example", "token"] = Field(
        default="example", description="token: by the predicted token against the right one, each its own"
    )
    refresh_steps: int | None = Field(
        default=None, ge=1, description="optimiser steps after which the tuned model is measured again; null: never"
    )
    batch_size: int = Field(
        default=32, ge=1, description="rows per forward pass of a measurement; no result depends on it but by rounding"
    )

    def raw_weights(self, distances: Numbers) -> Numbers:
        """Turn distances into weights around 1, as they are before clipping  # (units,), float64."""
        import numpy as np

        away = distances - distances.mean()
        if self.form == "exponential":
            raw: Numbers = np.exp(self.alpha * away)
            return raw
        spread = distances.std()
        return 1.0 + self.alpha * away / spread if spread > SAME else np.ones_like(away)

    def weights(self, distances: Numbers, counts: Numbers, where: str) -> Numbers:
        """Turn distances into weights, all above 0, whose mean over target tokens is 1.

        Args:
            distances: of rows, or of target tokens  # (units,), float64.
            counts: how many target tokens each stands for  # (units,), int.
            where: the key that an error names.

        Returns:
            (units,), float64; exactly 1 everywhere for alpha = 0.

        Raises:
            UserError: a distance is missing.
        """
        import numpy as np

        missing = int(np.isnan(distances).sum())
        if missing:
            raise UserError(
                f"params.yaml: {where}: {missing} of {len(distances)} rows have no distance; allowed: rows that the "
                "answers stage has measured. Take `reweight` away, or run that stage again"
            )
        clipped = np.clip(self.raw_weights(distances), self.lowest, self.highest)
        normalised: Numbers = clipped * (counts.sum() / (clipped * counts).sum())
        return normalised

    def num_clipped(self, distances: Numbers) -> int:
        """Count the weights that the bounds change."""
        raw = self.raw_weights(distances)
        return int(((raw < self.lowest) | (raw > self.highest)).sum())
