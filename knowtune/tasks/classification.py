"""Classification: a text, or two texts, to one of a few labels, learned by cross-entropy."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from knowtune.tasks.head_task import HeadTask
from knowtune.text.cells import NUMBER, preview, text_of

if TYPE_CHECKING:
    import torch

    from knowtune.tasks.objective import Objective

MOST_SHOWN = 20  # labels in a message
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Classification(HeadTask):
    """Right when the label is the model's first choice."""

    labels: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        min_length=2,
        description="names; number i in a data file is the i-th, counted from 0, where no name is a number",
    )

    learned: ClassVar[str] = "accuracy"
    compare_meaning: ClassVar[bool] = True

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
        """Read a label by its name; by its value where names are numbers or truth values, else by its index.

        Raises:
            ValueError: no label is meant, or it is open which.
        """
        text = text_of(cell).strip()
        if not text:
            return []
        value = _value(text)
        named = (
            [name for name in self.labels if name.strip() == text]
            or [name for name in self.labels if value is not None and _value(name) == value]
            or self._at(value)
        )
        if len(named) != 1:
            raise ValueError(f"got {preview(cell)}; allowed: {self._allowed_labels()} (task.labels)")
        return named

    def _at(self, value: Decimal | str | None) -> list[str]:
        """Return the label with an index, counted from 0."""
        if not isinstance(value, Decimal) or not 0 <= value < len(self.labels) or value != int(value):
            return []
        return [] if self.named_by_numbers else [self.labels[int(value)]]

    @cached_property
    def named_by_numbers(self) -> bool:
        """Whether a number in a file may mean a label by its name, such as "1 star", and so none by its index."""
        return any(
            isinstance(_value(name), Decimal)
            or any(number <= len(self.labels) and number != index for number in _numbers_in(name))
            for index, name in enumerate(self.labels)
        )

    def _allowed_labels(self) -> str:
        """List what a cell may be."""
        names = [repr(name) if self.named_by_numbers else f"{i} or {name!r}" for i, name in enumerate(self.labels)]
        more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        return ", ".join(names[:MOST_SHOWN]) + more

    def number(self, target: str) -> float:
        """Return the label's index."""
        return float(self.labels.index(target)) if target in self.labels else float("nan")

    def to_text(self, outputs: torch.Tensor) -> list[str]:
        """Name the first choice."""
        return [self.labels[i] for i in outputs.argmax(1).tolist()] if len(outputs) else []

    @property
    def objective(self) -> Objective:
        """Cross-entropy."""
        from knowtune.tasks.head_objectives import LabelCrossEntropy

        return LabelCrossEntropy()


def _value(text: str) -> Decimal | str | None:
    """Read the number that a text is, or "true" or "false"; None for other texts."""
    if NUMBER.fullmatch(text.strip()):
        return Decimal(text.strip())
    return text.strip().lower() if text.strip().lower() in ("true", "false") else None


def _numbers_in(name: str) -> list[int]:
    """List the whole numbers in a name, in digits or as a word."""
    words = [WORDS.index(word) for word in re.findall("[a-z]+", name.lower()) if word in WORDS]
    return words + [int(digits) for digits in re.findall("[0-9]+", name) if len(digits) <= 6]
