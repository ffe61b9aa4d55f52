"""What every representation can do: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knowtune.registry import Member


class Representation(Member):
    """Turns texts into vectors whose angle says how far they are apart in meaning.

    One that reads a model of its own has a field `path`, its folder.
    """

    @abstractmethod
    def open(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[Sequence[str]], torch.Tensor]:
        """Return a function from a batch of texts to vectors  # (text, width), float32, CPU.

        Args:
            model: the pristine base; left as it is: mode, flags, gradients, generators.
            tokenizer: the base's.

        Raises:
            UserError: what it needs is missing.
        """
