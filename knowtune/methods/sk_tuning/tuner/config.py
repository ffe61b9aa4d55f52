"""What an SK_TUNING adapter is: a text, and what of it is trained."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from peft import PeftConfig
from peft.utils.peft_types import PeftType

from knowtune.common.errors import UserError
from knowtune.methods.peft_enum import add_member
from knowtune.methods.sk_tuning.options import CHOICES, option_conflicts

LIKE = 0.1  # how far, for their size, numbers of one base lie apart at most, by the type or the bits that it is kept in


@dataclass
class SkTuningConfig(PeftConfig):
    """Options of an SK_TUNING adapter.

    Args:
        text: what is read before every input, in plain words.
        variant: prefix (keys and values of every layer) or prompt (embeddings before the input's).
        form: paper (the text's states stay, projections of them are trained) or released (the embeddings of the text's
            tokens are trained).
        pooling: what a classifier's head reads: what it reads in the model (model); the mean of the last hidden states
            over the input, without padding (mean), or over all positions, those of padding and prompt too (released).
        shared: paper, prefix: one pair of projections for all layers, where each has its own else.
        rank: paper: projections through this many numbers instead of square matrices.
        transform: released: train a matrix too, of all keys and values (prefix) or of the embeddings (prompt).
        dropout: in training, on what stands before the input, and on trained embeddings.
        init_weights: begin at the text: projections at zero, the transform at the identity; False: at random.
        tokenizer_name_or_path: whose tokens the text becomes; None: those of the model's folder.
        token_ids: the text's tokens. Filled when attached; a saved adapter is loaded by them, without a tokenizer.
        base_shape: what tells the adapter's base from others: its model type, the name of its backbone, and the widths
            that the adapter fits. Filled when attached; a saved adapter is refused by another base.
        base_words: some numbers of the base's embeddings of the text. Filled when attached; on a base whose numbers are
            others, a saved adapter warns.
        modules_to_save: modules that are trained and saved whole, e.g. a classifier's head.
    """

    text: str | None = None
    variant: Literal["prefix", "prompt"] = "prefix"
    form: Literal["paper", "released"] = "paper"
    pooling: Literal["model", "mean", "released"] = "model"
    shared: bool = False
    rank: int | None = None
    transform: bool = False
    dropout: float = 0.0
    init_weights: bool = True
    tokenizer_name_or_path: str | None = None
    token_ids: list[int] | None = None
    base_shape: dict[str, Any] | None = None
    base_words: list[float] | None = None
    modules_to_save: list[str] | None = None

    target_modules: ClassVar[None] = None  # PEFT asks every tuner's config

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = add_member(PeftType, "SK_TUNING")
        if problems := self.problems():
            raise UserError("SkTuningConfig: " + "; ".join(problems))

    @property
    def num_virtual_tokens(self) -> int:
        """Positions of the context that the text takes; 0 before its tokens are known."""
        return len(self.token_ids or [])

    def problems(self) -> list[str]:
        """Say what is wrong with the options, each with what is allowed."""
        problems = [
            f"{name}: got {value!r}; allowed: {', '.join(allowed)}"
            for name, allowed in CHOICES.items()
            if (value := getattr(self, name)) not in allowed
        ]
        problems += self.text_problems()
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout: got {self.dropout}; allowed: 0 to less than 1")
        if self.rank is not None and self.rank < 1:
            problems.append(f"rank: got {self.rank}; allowed: 1 or more")
        conflicts = option_conflicts(self.variant, self.form, self.shared, self.rank, self.transform)
        problems += [f"{name}: an option {why}; leave it out" for name, why in conflicts.items()]
        if self.task_type not in (None, "SEQ_CLS") and self.pooling != "model":
            problems.append(f"pooling: got {self.pooling!r} without a head that pools; allowed: model")
        return problems

    def text_problems(self) -> list[str]:
        """Say what is wrong with the text, or with its tokens."""
        problems: list[str] = []
        text, ids = self.text, self.token_ids
        if text is not None and not isinstance(text, str):
            problems.append(f"text: got {text!r}; allowed: some words of plain text, from which the adapter begins")
        elif ids is None and not (text or "").strip():
            problems.append("text: got nothing; allowed: some words of plain text, from which the adapter begins")
        if ids is not None and (not ids or any(type(token) is not int for token in ids)):
            problems.append(f"token_ids: got {ids!r}; allowed: one number or more; leave it out for the text's own")
        return problems

    def require_base(self, given: dict[str, Any]) -> None:
        """Refuse a base that is not the adapter's own, where that is known.

        Args:
            given: what is known of the base, as in `base_shape`.

        Raises:
            UserError: names both, and what differs.
        """
        own = self.base_shape or {}
        others = [name for name, value in given.items() if name in own and own[name] != value]
        if others:
            differ = "; ".join(f"{name} {own[name]!r}, here {given[name]!r}" for name in others)
            raise UserError(f"SkTuningConfig: the adapter is of another base: {differ}; load it onto the base it is of")

    def compare_words(self, given: list[float]) -> None:
        """Warn of a base that has the adapter's own shape, but is of another training, where that is known.

        Args:
            given: what the base has for `base_words`.
        """
        own = self.base_words
        if own is not None and (len(own) != len(given) or math.dist(own, given) > LIKE * math.hypot(*own)):
            warnings.warn(
                "SkTuningConfig: the adapter is of another base of the same shape: the text's embeddings are others "
                "here; load it onto the base it is of",
                stacklevel=2,
            )
