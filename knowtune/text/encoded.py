"""Rows as tokens: which are read, which are learned, and which are the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from knowtune.text.layout import Range

IGNORE_INDEX = -100  # the label of a token that is not learned


@dataclass(frozen=True)
class Encoded:
    """One row of a language model as tokens.

    Args:
        input_ids: start token, prompt, target, end token or ending.
        target_start: index of the target's first token.
        target_end: index after the target's last token; the end token or the ending's first one, where there is one,
            stands here.
        turns: ranges of the prompt's tokens that are learned too.
    """

    input_ids: list[int]
    target_start: int
    target_end: int
    turns: tuple[Range, ...] = ()

    filling: ClassVar[int] = 0  # the token that pads a batch
    segments: ClassVar[None] = None

    @classmethod
    def running(cls, input_ids: list[int]) -> Encoded:
        """Make running text, each token of which is learned after those before it."""
        return cls(input_ids, min(1, len(input_ids)), len(input_ids))

    @property
    def labels(self) -> list[int]:
        """Labels for training: -100 on the prompt but its learned turns, the ids of target and ending after it."""
        labels = [IGNORE_INDEX] * self.target_start + self.input_ids[self.target_start :]
        for start, stop in self.turns:
            labels[start:stop] = self.input_ids[start:stop]
        return labels

    @property
    def target_mask(self) -> list[bool]:
        """True on the target's own tokens."""
        return [self.target_start <= i < self.target_end for i in range(len(self.input_ids))]

    @property
    def has_target(self) -> bool:
        """Whether the target has a token of its own."""
        return self.target_end > self.target_start

    @property
    def num_learned(self) -> int:
        """Tokens that training learns from this row."""
        earlier = sum(stop - max(start, 1) for start, stop in self.turns)  # nothing stands before the first token
        return len(self.input_ids) - max(self.target_start, 1) + earlier


@dataclass(frozen=True)
class Labelled:
    """One row of a classifier as tokens.

    Args:
        input_ids: the text's tokens with the special ones, the second text's after them.
        segments: 0 on the first text, 1 on the second; None where the model knows no segments.
        label: the class's number, or the score; NaN where there is none.
        filling: the token that pads a batch; a decoder's head finds the last token by it.
    """

    input_ids: list[int]
    segments: list[int] | None
    label: float
    filling: int = 0

    @property
    def has_target(self) -> bool:
        """Whether there is a label."""
        return self.label == self.label

    @property
    def num_learned(self) -> int:
        """One label, or none."""
        return int(self.has_target)
