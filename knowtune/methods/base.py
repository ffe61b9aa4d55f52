"""What every method can do: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knowtune.common.errors import Problem
from knowtune.registry import Context, Member


class Method(Member):
    """A way to change a model: attach, train, save, load, and fold into plain weights where that is possible."""

    uses_mask: ClassVar[bool] = False  # whether it can train by a selection's mask: then it is a MaskedMethod
    needs_mask: ClassVar[bool] = False  # whether it trains nothing without one
    is_adapter: ClassVar[bool] = True  # whether it trains parameters of its own, of which a selection could choose

    @property
    def inside(self) -> Method:
        """The method that a selection's mask is for: itself, or one that it has inside."""
        return self

    @property
    def folds(self) -> bool:
        """Whether the trained change can be written into the base's own weights."""
        return True

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint of a half-trained model holds all that further training needs."""
        return True

    @property
    def computes_change(self) -> bool:
        """Whether it says by which matrix it changes each weight, so that an anchor can hold the change."""
        return True

    def num_virtual_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Count the positions of a model's context that the method takes before every input."""
        return 0

    def demands(self, context: Context) -> list[Problem]:
        """Refuse a quantised base where the base's own weights are trained, for these are packed."""
        if self.is_adapter or not context.quantized:
            return []
        got = f"{context.section['method']!r} on a quantised base"
        return [Problem(f"{context.where}.method", got, "an adapter, or quantize: none")]

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Make the model trainable by this method; random starts follow torch's global seed."""

    @abstractmethod
    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write what was trained (and only that) into a folder, as safetensors and JSON."""

    @abstractmethod
    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Put what `save` wrote back onto a pristine base."""

    @abstractmethod
    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Return the plain transformers model that computes what the trained one computes. Needs `folds`."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the term this method adds to the training loss, or None."""
        return None

    def begin(self, model: torch.nn.Module, num_steps: int) -> None:
        """Prepare for so many optimiser steps.

        Raises:
            UserError: they are too few for what the method does during them.
        """

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Do what the method does after optimiser step `step`, the first of which is 1; gradients are still there."""

    def similarity(self, model: torch.nn.Module) -> float | None:
        """Return how like what is trained is to the words that it began at, for the training's curve.

        Returns:
            1 at the start; None for a method that begins at no words.
        """
        return None

    def parameter_groups(self, model: torch.nn.Module) -> list[dict[str, Any]] | None:
        """Return optimiser groups where the method needs its own, or None for the Trainer's."""
        return None


class MaskedMethod(Method):
    """A method that trains by the entries that a selection chose."""

    uses_mask: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = True
    is_adapter: ClassVar[bool] = False

    @abstractmethod
    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Make trainable what the mask says, and nothing else but a classifier's head.

        Args:
            model: a pristine base.
            mask: parameter name -> flat indices.
            start: folder of a trained adapter to go on from, whose parameters the mask then names; None: the base's.
        """
