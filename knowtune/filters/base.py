"""What every filter can do, and what it sees of the rows: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

from knowtune.registry import Member


@dataclass(frozen=True)
class Seen:
    """What the pristine base gives for training rows: answers, distances, gradients.

    Args:
        answers: id, answer, correct, num_tokens and distance (NaN where the task has none), on the index of the rows.
        sketches: random projections of training gradients  # (all rows, dimensions), memory-mapped: they may be larger
            than memory, so read `sketch_slices`. None where none were made.
        positions: of the rows' sketches among all  # (rows,); None: sketches are in the order of the rows.
    """

    answers: pd.DataFrame
    sketches: np.ndarray[Any, Any] | None = None
    positions: np.ndarray[Any, Any] | None = None

    def at(self, positions: np.ndarray[Any, Any]) -> Seen:
        """Return what belongs to the rows at some positions, in their order; no sketch is read."""
        among_all = positions if self.positions is None else self.positions[positions]
        return Seen(self.answers.iloc[positions], self.sketches, among_all)

    def sketch_slices(self, size: int = 8192) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the rows' sketches in their order, `size` at a time  # (<= size, dimensions), float64."""
        assert self.sketches is not None
        for start in range(0, len(self.answers), size):
            part = slice(start, min(start + size, len(self.answers)))
            yield self.sketches[part if self.positions is None else self.positions[part]].astype("float64")


class Filter(Member):
    """Decides, row by row, what is worth learning."""

    ranks: ClassVar[bool] = False  # whether it compares rows with each other, so that it can be run within strata
    needs: ClassVar[tuple[str, ...]] = ()  # of "distance" and "sketches", what it cannot do without
    reads: ClassVar[tuple[str, ...] | None] = None  # columns of rows beside id, relation and target; None: all of them

    @abstractmethod
    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say why each row is dropped. The order of the rows does not matter.

        Args:
            rows: training rows as the data contract gives them.
            seen: what the pristine base gives for them, same order.

        Returns:
            One text per row, on the index of `rows`: the reason it is dropped, or "" where it is kept.
        """
