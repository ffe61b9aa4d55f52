"""How much each row, or each of its tokens, counts in the loss: by semantic distance, or by the base's own loss.

By distance, a reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public
to us:

    linear        w_i = 1 + alpha (d_i - mean d) / std d      all 1 where std d = 0
    exponential   w_i = exp(alpha (d_i - mean d))             alpha = 1 / tau
    then          w_i <- clip(w_i, lowest, highest),   w_i <- w_i sum_j n_j / sum_j w_j n_j

By the pristine base's loss, so that training stays near to what the base expects anyway:

    flow          w_i = exp(-l_i / median l)                  FLOW (arXiv 2502.02797), rows
    stm           w_t = 1 where exp(l_t) <= threshold, else 0  selective token masking (arXiv 2501.14315), tokens
    then          w_i <- w_i sum_j n_j / sum_j w_j n_j

d_i     distance of row i (or of a token), see `knowtune.semantics.distance`; over the rows that survived filter and
selection
l_i     mean loss per target token of row i in nats, of a classifier or regression that of its label or score;
l_t     loss of target token t, so that exp(l_t) is its perplexity
n_i     target tokens of row i (1 of a token): the token-weighted mean of the weights is 1

The mean distance is subtracted in the exponent too. It cancels where nothing is clipped, and makes both forms centre on
1, so that the bounds mean the same whatever the level of the distances. After normalising, weights may lie outside of
them. `flow` and `stm` have no bounds.

Departures of `flow` and `stm` from the papers: the mean is 1, so that the loss keeps its level and a learning rate its
meaning. FLOW's weights lie in (0, 1], about 1/e in the median, and STM averages over the tokens that are left; both
differ from ours by one factor for all rows. FLOW's loss of a row is here the mean per target token.

A new fact's tokens are the improbable ones. Both forms weigh down just these, so expect a cost in learning new facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from knowtune.common.errors import UserError
from knowtune.registry import Member

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

BY_LOSS = ("flow", "stm")
NEEDS_DISTANCES = ("alpha", "lowest", "highest", "refresh_steps")  # options that the forms by loss do not have
SAME = 1e-6  # a spread of distances, which lie in [0, 2], that is no more than rounding


class Weighting(Member):
    """Options of the weights: `runs.NAME.reweight`."""

    form: Literal["linear", "exponential", "flow", "stm"] = Field(
        default="linear", description="by distance; flow, stm: by the base's loss; see knowtune/training/weights.py"
    )
    alpha: float = Field(
        default=-0.5, ge=-100, le=100, description="positive: the far count more; negative: less; 0: all alike"
    )
    lowest: float = Field(default=0.2, ge=1e-6, le=1, description="weights are clipped before they are normalised")
    highest: float = Field(default=5.0, ge=1, le=1e6, description="weights are clipped before they are normalised")
    granularity: Literal["example", "token"] = Field(
        default="example",
        description="token: by the predicted token against the right one, each its own; flow has example, stm token",
    )
    threshold: float = Field(
        default=2.5, gt=1, le=1e6, description="stm: perplexity under the base above which a target token is left out"
    )
    refresh_steps: int | None = Field(
        default=None, ge=1, description="optimiser steps after which the tuned model is measured again; null: never"
    )
    batch_size: int = Field(
        default=32, ge=1, description="rows per forward pass of a measurement; no result depends on it but by rounding"
    )

    @model_validator(mode="before")
    @classmethod
    def _masks_tokens(cls, given: Any) -> Any:
        """Let stm weigh tokens where nothing else is given."""
        masks = isinstance(given, dict) and given.get("form") == "stm"
        return {"granularity": "token", **given} if masks else given

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Refuse options that the form does not read."""
        if self.by_loss and (idle := sorted(self.model_fields_set.intersection(NEEDS_DISTANCES))):
            raise ValueError(f"form {self.form} without {', '.join(idle)}: it weighs by the pristine base's loss")
        if self.form != "stm" and "threshold" in self.model_fields_set:
            raise ValueError("threshold only with form: stm")
        needed = {"flow": "example", "stm": "token"}.get(self.form, self.granularity)
        if self.granularity != needed:
            raise ValueError(f"form {self.form} with granularity: {needed}")
        return self

    @property
    def by_loss(self) -> bool:
        """Whether the pristine base's loss is weighed by, so that no semantic distance is needed."""
        return self.form in BY_LOSS

    @property
    def measured(self) -> str:
        """Name what is weighed by."""
        return "loss" if self.by_loss else "distance"

    def raw_weights(self, distances: Numbers) -> Numbers:
        """Turn distances into weights around 1, as they are before clipping; losses into the papers' weights.

        Returns:
            (units,), float64.
        """
        import numpy as np

        if self.form == "stm":
            expected: Numbers = (distances <= np.log(self.threshold)).astype(float)
            return expected
        if self.form == "flow":
            falling: Numbers = np.exp(-distances / np.median(distances))
            return falling
        away = distances - distances.mean()
        if self.form == "exponential":
            raw: Numbers = np.exp(self.alpha * away)
            return raw
        spread = distances.std()
        return 1.0 + self.alpha * away / spread if spread > SAME else np.ones_like(away)

    def weights(self, distances: Numbers, counts: Numbers, where: str) -> Numbers:
        """Turn distances or losses into weights whose mean over target tokens is 1.

        Args:
            distances: of rows, or of target tokens; with a form by loss their losses  # (units,), float64.
            counts: how many target tokens each stands for  # (units,), int.
            where: the key that an error names.

        Returns:
            (units,), float64; by distance all above 0, and exactly 1 everywhere for alpha = 0.

        Raises:
            UserError: a distance is missing, a loss is not finite, or the losses leave nothing to weigh.
        """
        import numpy as np

        if self.by_loss:
            self._require_scale(distances, where)
            clipped = self.raw_weights(distances)
        else:
            missing = int(np.isnan(distances).sum())
            if missing:
                raise UserError(
                    f"params.yaml: {where}: {missing} of {len(distances)} rows have no distance; allowed: rows that "
                    "the answers stage has measured. Take `reweight` away, or run that stage again"
                )
            clipped = np.clip(self.raw_weights(distances), self.lowest, self.highest)
        normalised: Numbers = clipped * (counts.sum() / (clipped * counts).sum())
        return normalised

    def _require_scale(self, losses: Numbers, where: str) -> None:
        """Refuse losses by which nothing can be weighed."""
        import numpy as np

        bad = int((~np.isfinite(losses)).sum())
        if bad:
            got = f"{bad} of {len(losses)} losses of the base are not finite"
            raise UserError(f"params.yaml: {where}: {got}; measure in float32 (compute.dtype: float32)")
        if self.form == "flow" and not np.median(losses) > 0:
            got = "the base's median loss is 0, so that FLOW has no scale"
            raise UserError(f"params.yaml: {where}: {got}: the base knows these rows. Take `reweight` away")
        if self.form == "stm" and not (losses <= np.log(self.threshold)).any():
            got = f"got {self.threshold:g}, which masks all {len(losses)} target tokens"
            least = f"the base's lowest perplexity of one is {np.exp(losses.min()):.4g}"
            raise UserError(f"params.yaml: {where}.threshold: {got}; {least}. Raise it, or take `reweight` away")

    def num_clipped(self, distances: Numbers) -> int:
        """Count the weights that the bounds change."""
        if self.by_loss:
            return 0
        raw = self.raw_weights(distances)
        return int(((raw < self.lowest) | (raw > self.highest)).sum())
