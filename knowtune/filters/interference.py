"""The filter that drops the rows whose training would work against the others'.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.
The cosines and what they cost are in `knowtune.filters.sketch_cosines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen


class Interference(Filter):
    """Keep the share of rows whose gradient least opposes the mean gradient of the others.

    It needs sketches of the gradients (`answers.sketch`): one backward pass of the base per row, once for all filters.
    Then two passes over the sketches, a slice in memory at a time. Of equal cosines, the lower id goes.
    """

    ranks: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("sketches",)
    reads: ClassVar[tuple[str, ...] | None] = ()

    keep: float = Field(default=0.9, gt=0, le=1, description="share of the rows that stays, rounded up")

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say how far a row's gradient points against the others', and where the last one that stays does."""
        from knowtune.filters.ranking import lowest_first, num_kept, reasons_at
        from knowtune.filters.sketch_cosines import cosines_with_others

        cosines = cosines_with_others(seen)  # (rows,)
        order = lowest_first(cosines, rows["id"])
        num_gone = len(rows) - num_kept(self.keep, len(rows))
        last, gone = cosines[order[num_gone]], order[:num_gone]
        reasons = [
            f"least in line: cosine {c:.4f} {'<' if c < last else '= (by id)'} {last:.4f}, with the mean of the others"
            for c in cosines[gone]
        ]
        return reasons_at(rows.index, gone, reasons)
