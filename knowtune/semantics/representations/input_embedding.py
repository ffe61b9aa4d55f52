"""A text as the mean of its tokens' input embeddings, those of the base model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from knowtune.semantics.representations.base import Representation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class InputEmbedding(Representation):
    """v(s) = mean over the tokens of s, special ones left out, of E[token]. Needs no pass of the model."""

    def open(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[Sequence[str]], torch.Tensor]:
        """Average rows of the embedding."""
        import torch

        from knowtune.text.special_tokens import tokenise

        table = model.get_input_embeddings().weight
        assert isinstance(table, torch.Tensor)
        table = table.detach()  # (vocabulary, width)

        def vectors(texts: Sequence[str]) -> torch.Tensor:
            special = set(tokenizer.all_special_ids)  # what the vocabulary has not
            ids = [[token for token in row if token not in special] for row, _ in tokenise(tokenizer, texts)]
            flat = torch.tensor([token for row in ids for token in row], dtype=torch.long, device=table.device)
            starts = torch.tensor([0, *(len(row) for row in ids[:-1])], device=table.device).cumsum(0)
            return torch.nn.functional.embedding_bag(flat, table, starts, mode="mean").float().cpu()

        return vectors
