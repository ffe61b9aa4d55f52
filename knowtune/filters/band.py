"""The filter that keeps a band of distances: what is neither said already nor out of reach.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.
Summaries of it say that both too near and too far hurt learning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from knowtune.families import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.families import Seen


class Band(Filter):
    """Keep the rows whose distance lies from `lo` to `hi`, both included.

    Rows are not compared with each other, so strata make no difference; where all distances are equal, all rows stay or
    all go, and the latter is refused.
    """

    needs: ClassVar[tuple[str, ...]] = ("distance",)
    reads: ClassVar[tuple[str, ...] | None] = ()

    lo: float = Field(default=0.0, ge=0, le=2, description="smallest distance that stays")
    hi: float = Field(default=1.0, ge=0, le=2, description="largest distance that stays")

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        """Require a band that holds something."""
        if self.lo > self.hi:
            raise ValueError("lo <= hi")
        return self

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say on which side of the band a row lies."""
        import pandas as pd

        distances = seen.answers["distance"].to_numpy()  # (rows,)
        reasons = pd.Series("", index=rows.index, dtype="str")
        for side, outside in ((f"near: distance {{:.4f}} < {self.lo:g}", distances < self.lo),
                              (f"far: distance {{:.4f}} > {self.hi:g}", distances > self.hi)):  # fmt: skip
            reasons[outside] = pd.Index([side.format(d) for d in distances[outside]], dtype="str")
        return reasons
