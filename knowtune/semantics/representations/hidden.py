"""A text as the mean of the base model's last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from knowtune.semantics.representations.base import Representation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Hidden(Representation):
    """v(s) = mean over the tokens of s, special ones left out, of the last hidden state.

    Special tokens are read, as the base has learned to, but do not count: the first token's state is often so long that
    it would drown the others.
    """

    batch_size: int = Field(default=128, ge=1, description="texts per forward pass; results depend on it by rounding")

    def open(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[Sequence[str]], torch.Tensor]:
        """Read texts with the base, start token first."""
        from knowtune.models.hidden_states import mean_states
        from knowtune.text.encode_pairs import encode_wrapped

        def vectors(texts: Sequence[str]) -> torch.Tensor:
            read = encode_wrapped(tokenizer, texts, min(tokenizer.model_max_length, 2**31))
            return mean_states(model, *read, self.batch_size)

        return vectors
