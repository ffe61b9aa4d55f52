"""Regression: a text, or two texts, to a score, learned by squared error (as GLUE's STS-B)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.tasks.head_task import HeadTask
from knowtune.text.cells import NUMBER, preview, text_of

if TYPE_CHECKING:
    import torch

    from knowtune.tasks.objective import Objective

LARGEST = 3.4e38  # of what 32 bits hold


class Regression(HeadTask):
    """One output, the score; judged by correlation. `correct` says only whether it is met exactly."""

    learned: ClassVar[str] = "pearson"
    compare_meaning: ClassVar[bool] = False
    numeric: ClassVar[bool] = True

    @property
    def num_outputs(self) -> int:
        """The score alone."""
        return 1

    def read_target(self, cell: Any) -> list[str]:
        """Read a number as it is written, with a point; empty cells say nothing.

        Raises:
            ValueError: what is no number, or one that 32 bits do not hold.
        """
        text = text_of(cell).strip()
        if not text:
            return []
        if isinstance(cell, bool) or not NUMBER.fullmatch(text) or abs(float(text)) > LARGEST:
            raise ValueError(f"got {preview(cell)}; allowed: a number such as 3.5")
        return [repr(float(text)).removesuffix(".0")]

    def number(self, target: str) -> float:
        """Read the score."""
        return float(target) if target else float("nan")

    def to_text(self, outputs: torch.Tensor) -> list[str]:
        """Write the score with six digits."""
        return [f"{score:.6g}" for score in outputs[:, 0].tolist()]

    @property
    def objective(self) -> Objective:
        """Squared error."""
        from knowtune.tasks.head_objectives import SquaredError

        return SquaredError()
