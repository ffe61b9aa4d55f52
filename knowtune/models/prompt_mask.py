"""Tell a model which tokens are a prompt's, where it computes by that: those that interweave two memories do."""

from __future__ import annotations

from typing import Any

import torch


def prompt_option(model: Any, prompt: torch.Tensor) -> dict[str, torch.Tensor]:
    """Give the argument of a pass that says where the prompt is; none for a model that does not ask.

    Args:
        model: with or without an adapter.
        prompt: true at its tokens  # (batch, seq)
    """
    return {"prompt_mask": prompt} if getattr(model, "takes_prompt_mask", False) else {}
