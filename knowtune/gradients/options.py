"""How rows are scored by their gradients: the options of selections that use Fisher information."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from knowtune.registry import Member


class Scoring(Member):
    """How rows are scored by their squared gradients g^2 of the mean loss per target token or label."""

    labels: Literal["true", "expected"] = Field(
        default="true", description="labels of the data, or the model's own: over all classes, drawn for texts"
    )
    draws: int = Field(default=1, ge=1, description="how often expected labels are drawn where they are drawn")
    max_loss: float | None = Field(
        default=None, gt=0, description="nats; the gradient of a row with more loss is scaled by max_loss / loss"
    )
    batch_size: int = Field(
        default=32, ge=1, description="most rows per forward pass; no result depends on it but by rounding"
    )

    @model_validator(mode="after")
    def _draws_something(self) -> Self:
        """Refuse what has no effect."""
        if self.labels == "true" and self.draws > 1:
            raise ValueError("draws only with labels: expected")
        return self
