"""Change of an answer's distance to the right one by training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PUSHED = 0.01  # a distance that grew by more than this was pushed away; what is less may be rounding


def new_facts(examples: pd.DataFrame) -> pd.DataFrame:
    """Return the examples of new facts, which training is to teach, without those of known facts."""
    return examples[examples["kind"] != "locality"]


def distance_changes(examples: pd.DataFrame) -> pd.Series[float]:
    """Return how much farther from its target each answer is than the pristine base's was.

    Args:
        examples: with distance and base_distance; others, and those without a distance, have no change.

    Returns:
        One number per example that has both, in [-2, 2], on the index of `examples`.
    """
    import pandas as pd

    if "distance" not in examples or "base_distance" not in examples:
        return pd.Series(dtype=float)
    return (examples["distance"].astype(float) - examples["base_distance"].astype(float)).dropna()
