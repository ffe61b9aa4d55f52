"""Which tokens of a row are a prompt's, by its labels."""

from __future__ import annotations

import torch

from knowtune.text.encoded import IGNORE_INDEX


def prompt_tokens(labels: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    """Say which tokens are not learned: those of a prompt, or the first of a text, which nothing comes before.

    Args:
        labels: -100 for what is not learned  # (batch, seq)
        real: 0 for padding  # (batch, seq); None: there is none

    Returns:
        Bool  # (batch, seq)
    """
    given = labels == IGNORE_INDEX
    return given if real is None else given & real.bool()
