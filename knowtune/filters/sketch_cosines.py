"""Which knowledge disturbs which: cosines between the training gradients of rows, read from their sketches.

    opposition of row i     c_i  = cos(s_i, m_i)                                       in [-1, 1]
    of relations A and B    C_AB = mean of cos(s_i, s_j) over i in A, j in B, i != j   in [-1, 1]

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us: facts
that are learned together suppress each other's features.

s_i     sketch: a random projection of the gradient of row i on the pristine base  # (dimensions,)
m_i     mean of the sketches of all other rows; its direction is that of their sum, T - s_i

The filter `interference` ranks rows by c. It is another module, for the summary of every chain of filters imports this.

Cost: O(rows x dimensions), two passes over the sketches, one slice of them in memory at a time. A sketch of k
dimensions blurs each cosine by about 1 / sqrt(k).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen

DECIMALS = 6  # of a cosine; finer than a sketch can say, coarser than what the order of a sum changes


def cosines_with_others(seen: Seen) -> np.ndarray[Any, Any]:
    """Return the cosine of each row's sketch with the mean of all others; 0 where one has no length  # (rows,)."""
    total = sum((part.sum(0) for part in seen.sketch_slices()), np.zeros(1))  # (dimensions,)
    cosines = [np.zeros(0)]
    for part in seen.sketch_slices():  # (slice, dimensions)
        others = total - part
        lengths = np.linalg.norm(part, axis=1) * np.linalg.norm(others, axis=1)
        cosines.append((part * others).sum(1) / np.where(lengths > 0, lengths, 1.0))
    return np.concatenate(cosines).clip(-1, 1).round(DECIMALS)


def mean_group_cosines(seen: Seen, groups: pd.Series[str], names: list[str]) -> list[list[float | None]]:
    """Return the mean cosine between the rows of every two groups, by the sums of unit vectors, in one pass.

    Args:
        seen: with sketches.
        groups: of each row.
        names: the groups that are compared.

    Returns:
        One line per name, in their order; None where a group has no two rows that could be compared.
    """
    number = groups.map({name: i for i, name in enumerate(names)}).fillna(-1).to_numpy(dtype=int)  # (rows,)
    sums: Any = 0.0
    counts, squares = np.zeros(len(names)), np.zeros(len(names))
    start = 0
    for part in seen.sketch_slices():
        here = number[start : start + len(part)]
        start += len(part)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        units = part / np.where(lengths > 0, lengths, 1.0)
        members = np.equal.outer(np.arange(len(names)), here).astype(float)  # (groups, slice)
        sums = sums + members @ units  # (groups, dimensions)
        counts += members.sum(1)
        squares += members @ (units**2).sum(1)
    pairs = np.outer(counts, counts) - np.diag(counts)
    totals = sums @ sums.T - np.diag(squares)
    return [
        [round(float(t / p), DECIMALS) if p else None for t, p in zip(*line, strict=True)]
        for line in zip(totals, pairs, strict=True)
    ]
