"""Random draws that a hash decides: they depend on names and seed alone, not on the order of a file.

A draw of more contains a draw of fewer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def random_keys(names: pd.Series[str], seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Give each name a random number of 64 bits, by a hash of name and seed; sorting by it shuffles."""
    return pd.util.hash_array(names.to_numpy(dtype=object), hash_key=f"{seed:016d}"[-16:], categorize=False)


def draw(names: pd.Series[str], count: int | None, seed: int) -> pd.Series[str]:
    """Draw `count` names at random; None for all."""
    if count is None or count >= len(names):
        return names
    return names.iloc[random_keys(names, seed).argsort(kind="stable")[:count]]


def draw_rows(rows: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """Draw rows by their ids, and keep their order."""
    return where(rows, among(rows["id"], draw(rows["id"], count, seed)))


def where(rows: pd.DataFrame, wanted: Any) -> pd.DataFrame:
    """Take the wanted rows; of a million that are all wanted, no copy."""
    return rows if wanted.all() else rows[wanted]


def among(values: pd.Series[str], known: pd.Series[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which values are among the known ones; pandas' own `isin` takes seconds for a million texts."""
    return np.asarray(pc.is_in(pa.array(values.array), value_set=pa.array(known.array)))
