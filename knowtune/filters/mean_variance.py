"""The filter that keeps rows whose mean distance is small while their spread is large.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us.
A summary of it says: choose data so that the average semantic distance is small while its variance is large. Read as

    minimise over |S| = k      J(S) = mean_S d - lambda std_S d         or, with `form: variance`, - lambda var_S d

d        distance of a row  # (N,)
k        ceil(keep N)
lambda   `spread` >= 0; 0 keeps the nearest

The optimum is exact. std and var are convex in each d_i, so J is concave in it: a row of S that has rows outside of S
on both sides can be changed for one of them without raising J. So some best S is a prefix and a suffix of the sorted
distances, and of those there are k + 1. O(N log N) for the sorting, O(N) after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from knowtune.filters.base import Seen


class MeanVariance(Filter):
    """Keep the share of rows with the smallest mean distance less `spread` times its standard deviation.

    It deliberately keeps some of the farthest rows, where wrong targets of another kind lie; what goes is a stretch in
    the middle. Of equal distances, the lower ids are the nearer rows. Of equally good choices, the one with most of
    the nearest rows.
    """

    ranks: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("distance",)
    reads: ClassVar[tuple[str, ...] | None] = ()

    keep: float = Field(default=0.9, gt=0, le=1, description="share of the rows that stays, rounded up")
    spread: float = Field(default=1.0, ge=0, le=1e6, description="lambda: what spread is worth")
    form: Literal["deviation", "variance"] = Field(
        default="deviation", description="measure of spread: standard deviation, or variance"
    )

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say how far a row is, and between which rows that stay."""
        from knowtune.filters.ranking import lowest_first, num_kept, reasons_at

        distances = seen.answers["distance"].to_numpy()  # (rows,)
        count = num_kept(self.keep, len(rows))
        order = lowest_first(distances, rows["id"])
        ranked = distances[order]
        num_near = best_prefix(ranked, count, self.spread, self.form)
        first_far = len(rows) - (count - num_near)
        near = [f"after {ranked[num_near - 1]:.4f}"] if num_near else []
        far = [f"before {ranked[first_far]:.4f}"] if first_far < len(rows) else []
        between = " and ".join(near + far)
        gone = order[num_near:first_far]
        reasons = [f"middle: distance {d:.4f}, {between}" for d in distances[gone]]
        return reasons_at(rows.index, gone, reasons)


def best_prefix(ranked: np.ndarray[Any, Any], count: int, spread: float, form: str) -> int:
    """Return how many of the nearest rows are in the best choice of `count`; the others of it are the farthest.

    Args:
        ranked: sorted distances  # (rows,)
        count: size of the choice, 1 to rows.
        spread: lambda.
        form: deviation or variance.
    """
    import numpy as np

    shifted = ranked - ranked[0]  # equal distances are exactly 0 apart
    mean_near, squares_near = _running_moments(shifted[:count])  # each (count + 1,), by the number of rows
    far = _running_moments(shifted[::-1][:count])
    mean_far, squares_far = (part[::-1] for part in far)  # beside those of as many near
    num_near = np.arange(count + 1)
    num_far = count - num_near
    mean = (num_near * mean_near + num_far * mean_far) / count
    # All terms are positive, so that nothing cancels, however close the distances are.
    variance = (squares_near + squares_far + (mean_far - mean_near) ** 2 * (num_near * num_far / count)) / count
    costs = mean - spread * (np.sqrt(variance) if form == "deviation" else variance)
    return int(count - np.argmin(costs[::-1]))


def _running_moments(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return mean and summed squares about it of the first 0, 1, 2, ... values  # each (values + 1,)."""
    import numpy as np

    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    before = np.concatenate([values[:1], means[:-1]])
    squares = np.cumsum((values - before) * (values - means))  # Welford's recurrence
    return np.concatenate([[0.0], means]), np.concatenate([[0.0], squares])
