"""Regression: a text, or two texts, to a score, learned by squared error (as GLUE's STS-B)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.tasks.heads import HeadTask
from knowtune.text.cells import NUMBER, preview, text_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LARGEST = 3.4e38  # of what 32 bits hold


class Regression(HeadTask):
    """One output, the score; judged by correlation. `correct` says only whether it is met exactly."""

    learned: ClassVar[str] = "pearson"

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

    def words(self, outputs: torch.Tensor) -> list[str]:
        """Write the score with six digits."""
        return [f"{score:.6g}" for score in outputs[:, 0].tolist()]

    def distances(
        self,
        vectors: Callable[[Sequence[str]], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Say that a score has no distance in meaning."""
        return [math.nan] * len(answers)

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Give the scores  # (batch,)."""
        import torch

        return torch.tensor([row.label for row in encoded], dtype=torch.float32)

    def item_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Squared error  # (batch, 1)."""
        return (logits[:, :1].float() - targets.unsqueeze(1)).square()

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Scores drawn around the model's with variance 1/2, whose -log p is the squared error, but for a constant."""
        import torch

        for _ in range(draws):
            noise = torch.cat([torch.randn(1, generator=lot) for lot in generators]).to(logits.device)
            yield logits[:, 0].float() + noise / 2**0.5, torch.full_like(targets, 1 / draws)
