"""How far training moved answers away from what is right."""

from __future__ import annotations

import pandas as pd

PUSHED = 0.01  # a distance that grew by more than this was pushed away; what is less may be rounding


def learned(examples: pd.DataFrame) -> pd.DataFrame:
    """Give the examples that were to be learned, and not those that were known and are to stay."""
    return examples[examples["kind"] != "locality"]


def changes(examples: pd.DataFrame) -> pd.Series[float]:
    """Return how much farther from its target each answer is than the pristine base's was.

    Args:
        examples: with distance and base_distance; others, and those without a distance, have no change.

    Returns:
        One number per example that has both, in [-2, 2], on the index of `examples`.
    """
    if "distance" not in examples or "base_distance" not in examples:
        return pd.Series(dtype=float)
    return (examples["distance"].astype(float) - examples["base_distance"].astype(float)).dropna()
