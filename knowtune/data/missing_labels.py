"""Labels without a training row: they cannot be learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10  # labels that are named


def check_labels(labels: Sequence[str], train: pd.Series[str], test: pd.Series[str]) -> list[str]:
    """Return a caution where labels of a task have no training row.

    Args:
        labels: of the task.
        train: the training rows' labels.
        test: the test rows'.
    """
    trained = set(train)
    missing = [label for label in labels if label not in trained]
    if not missing:
        return []
    counts = test.value_counts()
    named = ", ".join(f"{label!r} ({counts.get(label, 0)} test rows)" for label in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return [
        f"{len(missing)} of {len(labels)} labels have no training row, so that they cannot be learned: {named}{more}"
    ]
