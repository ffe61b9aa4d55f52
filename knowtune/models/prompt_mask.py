"""Tell a model which tokens are a prompt's, where it computes by that: those that interweave two memories do."""

from __future__ import annotations

from typing import Any

import torch

from knowtune.text.prompt_tokens import prompt_tokens


def prompt_option(model: Any, labels: torch.Tensor, real: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Give the argument of a pass that says where the prompt is; none for a model that does not ask.

    Args:
        model: with or without an adapter, without what a launcher wraps around it.
        labels: -100 for what is no answer  # (batch, seq)
        real: 0 for padding  # (batch, seq); None: there is none
    """
    if not getattr(model, "takes_prompt_mask", False):
        return {}
    return {"prompt_mask": prompt_tokens(labels, real)}
