"""Which tokens of a row are a prompt's, by its labels."""

from __future__ import annotations

import torch

from knowtune.text.encoded import IGNORE_INDEX


def prompt_tokens(labels: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    """Say which tokens are in no answer: those that are not learned, or all of a row that has no prompt.

    A row of text has no prompt: each token is learned, but perhaps the first, which nothing comes before.

    Args:
        labels: -100 for what is not learned  # (batch, seq)
        real: 0 for padding  # (batch, seq); None: there is none

    Returns:
        Bool  # (batch, seq)
    """
    given = labels == IGNORE_INDEX
    if real is not None:
        given = given & real.bool()
    return given | (given.sum(1, keepdim=True) <= 1)
