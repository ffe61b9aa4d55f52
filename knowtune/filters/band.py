"""The filter that keeps a band of distances: what is neither known already nor out of reach.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.
Summaries of it say that both too near and too far hurt learning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen


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
    def _require_order(self) -> Band:
        """Require a band that holds something."""
        if self.lo > self.hi:
            raise ValueError("lo <= hi")
        return self

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say on which side of the band a row lies."""
        import numpy as np

        from knowtune.filters.ranking import reasons_at

        distances = seen.answers["distance"].to_numpy()  # (rows,)
        gone = np.flatnonzero((distances < self.lo) | (distances > self.hi))
        near, far = f"< {self.lo:g}", f"> {self.hi:g}"
        reasons = [
            f"near: distance {d:.4f} {near}" if d < self.lo else f"far: distance {d:.4f} {far}" for d in distances[gone]
        ]
        return reasons_at(rows.index, gone, reasons)
