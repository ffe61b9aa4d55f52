"""The filter that keeps what is nearest in meaning to the base's own answers.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us: a large
semantic distance between the base's answer and the target hurts learning, so the farthest rows go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen


class Nearest(Filter):
    """Keep the share of rows with the smallest distance.

    It sees a target that is far from what the base expects: of another kind, or empty. It cannot see a wrong target of
    the right kind where the base does not know the fact. Of equal distances, the lower id stays.
    """

    ranks: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("distance",)
    reads: ClassVar[tuple[str, ...] | None] = ()

    keep: float = Field(default=0.9, gt=0, le=1, description="share of the rows that stays, rounded up")

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say how far a row is, and where the last one that stays is."""
        from knowtune.filters.ranking import lowest_first, num_kept, reasons_at

        distances = seen.answers["distance"].to_numpy()  # (rows,)
        order = lowest_first(distances, rows["id"])
        count = num_kept(self.keep, len(rows))
        last, gone = distances[order[count - 1]], order[count:]
        reasons = [f"far: distance {d:.4f} {'>' if d > last else '= (by id)'} {last:.4f}" for d in distances[gone]]
        return reasons_at(rows.index, gone, reasons)
