"""Rank rows by a number so that nothing depends on the order they were read in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from knowtune.statistics import share_of

if TYPE_CHECKING:
    import pandas as pd


def num_kept(keep: float, total: int) -> int:
    """Return ceil(keep x total), and one at least where there is one: how many rows a share is."""
    return max(share_of(keep, total), min(1, total))


def lowest_first(values: np.ndarray[Any, Any], ids: pd.Series[str]) -> np.ndarray[Any, Any]:
    """Return the positions from the lowest value to the highest; of equal values the lower id comes first.

    Args:
        values: one per row  # (rows,), no NaN
        ids: of the rows, all different.
    """
    order = np.argsort(values, kind="stable")  # (rows,)
    ranked = values[order]
    tied = np.zeros(len(values), dtype=bool)  # which places of the order are shared
    tied[1:] = ranked[1:] == ranked[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():  # texts are slow to sort, and distances seldom equal
        places = order[tied]
        by_id = places[ids.iloc[places].argsort(kind="stable").to_numpy()]
        order[tied] = by_id[np.argsort(values[by_id], kind="stable")]
    return order
