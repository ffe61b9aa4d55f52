"""Rank rows by a number so that nothing depends on the order they were read in; say why some of them go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from knowtune.common.statistics import share_of


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
    tied = np.zeros(len(values), dtype=bool)  # which ranks are shared
    tied[1:] = ranked[1:] == ranked[:-1]
    tied[:-1] |= tied[1:]
    if tied.any():  # texts are slow to sort, and distances seldom equal
        positions = order[tied]
        by_id = positions[ids.iloc[positions].argsort(kind="stable").to_numpy()]
        order[tied] = by_id[np.argsort(values[by_id], kind="stable")]
    return order


def reasons_at(index: pd.Index[Any], positions: np.ndarray[Any, Any], reasons: Sequence[str]) -> pd.Series[str]:
    """Put the reasons of the rows that go on the index of all; "" elsewhere. Setting texts one by one takes minutes.

    Args:
        index: of all rows.
        positions: of the rows that go.
        reasons: of these, in their order.
    """
    texts = np.full(len(index), "", dtype=object)
    texts[positions] = reasons
    return pd.Series(texts, index=index, dtype="str")
