"""How much each row, or each of its tokens, counts in the loss, by semantic distance.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.

    linear        w_i = 1 + alpha (d_i - mean d) / std d
    exponential   w_i = exp(alpha d_i)                        alpha = 1 / tau
    then          w_i <- clip(w_i, lowest, highest),   w_i <- w_i sum_j n_j / sum_j w_j n_j

d_i     distance of row i (or of a token), see `knowtune.semantics`; over the rows that survived filter and selection
n_i     learned tokens of row i: the token-weighted mean of the weights is 1
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from knowtune.families import Member


class Weighting(Member):
    """Options of the weights: `runs.NAME.reweight`."""

    form: Literal["linear", "exponential"] = "linear"
    alpha: float = Field(default=0.5, description="positive: the far count more; negative: less; 0: all alike")
    lowest: float = Field(default=0.2, gt=0, description="weights are clipped before they are normalised")
    highest: float = Field(default=5.0, gt=0)
    granularity: Literal["example", "token"] = "example"
    refresh_steps: int | None = Field(default=None, ge=1, description="measure again with the tuned model; null: never")

    @model_validator(mode="after")
    def _ordered(self) -> Weighting:
        """Require lowest <= 1 <= highest."""
        if not self.lowest <= 1 <= self.highest:
            raise ValueError("lowest <= 1 <= highest")
        return self
