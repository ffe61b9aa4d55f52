"""One forward pass over rows of unequal length."""

from __future__ import annotations

import torch

from knowtune.text.batches import pad


def forward(model: torch.nn.Module, ids: list[list[int]]) -> torch.Tensor:
    """Return the logits of a right-padded batch in float32  # (batch, seq, vocabulary)."""
    return logits_of(model, {"input_ids": pad(ids, 0), "attention_mask": pad([[1] * len(row) for row in ids], 0)})


def logits_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return a model's logits in float32: of each token, or of a head  # (batch, seq, vocabulary) or (batch, output).

    Prompt-learning methods may put virtual tokens first; tokens are aligned at their end.
    """
    device = next(model.parameters()).device
    logits: torch.Tensor = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
    return (logits[:, -inputs["input_ids"].shape[1] :] if logits.ndim == 3 else logits).float().cpu()
