"""How far training moved answers away from what is right."""

from __future__ import annotations

import pandas as pd

PUSHED = 0.01  # a distance that grew by more than this was pushed away; what is less may be rounding


def learned(items: pd.DataFrame) -> pd.DataFrame:
    """Give the items that were to be learned, and not those that were known and are to stay."""
    return items[items["kind"] != "locality"]


def changes(items: pd.DataFrame) -> pd.Series[float]:
    """Return how much farther from its target each answer is than the pristine base's was.

    Args:
        items: with distance and base_distance; others, and those without a distance, have no change.

    Returns:
        One number per item that has both, in [-2, 2], on the index of `items`.
    """
    if "distance" not in items or "base_distance" not in items:
        return pd.Series(dtype=float)
    return (items["distance"].astype(float) - items["base_distance"].astype(float)).dropna()
