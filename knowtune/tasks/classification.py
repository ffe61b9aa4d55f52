"""Classification: a text, or two texts, to one of a few labels, learned by cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from knowtune.tasks.heads import HeadTask

if TYPE_CHECKING:
    import torch


class Classification(HeadTask):
    """Right when the label is the model's first choice."""

    labels: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        min_length=2, description="names of the labels; number i in a data file is the i-th, counted from 0"
    )

    learned: ClassVar[str] = "accuracy"

    @field_validator("labels")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        """Require different names."""
        if len(set(names)) < len(names):
            raise ValueError("names that are all different")
        return names

    @property
    def num_outputs(self) -> int:
        """One per label."""
        return len(self.labels)

    def read_target(self, cell: Any) -> list[str]:
        """Read a label by its name or its number."""
        if cell is None or cell != cell or cell == "":
            return []
        name = str(cell).strip()
        if name in self.labels:
            return [name]
        try:
            number = float(name) if not isinstance(cell, bool) else int(cell)
        except ValueError:
            number = -1
        if number not in range(len(self.labels)):
            named = ", ".join(f"{i} or {label!r}" for i, label in enumerate(self.labels))
            raise ValueError(f"got {cell!r}; allowed: {named} (task.labels)")
        return [self.labels[int(number)]]

    def number(self, target: str) -> float:
        """Give the label's place in the list."""
        return float(self.labels.index(target)) if target in self.labels else float("nan")

    def words(self, outputs: torch.Tensor) -> list[str]:
        """Name the first choice."""
        return [self.labels[i] for i in outputs.argmax(1).tolist()] if len(outputs) else []

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Give the labels' numbers  # (batch,)."""
        import torch

        return torch.tensor([int(row.label) for row in encoded])

    def item_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats  # (batch, 1)."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets, reduction="none").unsqueeze(1)

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every class with its probability: exact."""
        import torch

        shares = logits.float().softmax(-1)
        for number in range(logits.shape[-1]):
            yield torch.full_like(targets, number), shares[:, number]
