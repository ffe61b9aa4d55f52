"""One forward pass over rows of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from knowtune.text.batches import pad

if TYPE_CHECKING:
    from knowtune.text.encoded import Encoded, Labelled


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


def batch_inputs(encoded: Sequence[Encoded | Labelled]) -> dict[str, torch.Tensor]:
    """Pad a batch on the right  # input_ids, attention_mask, token_type_ids where there are segments: (batch, seq)."""
    inputs = {
        "input_ids": pad([row.input_ids for row in encoded], encoded[0].filling),
        "attention_mask": pad([[1] * len(row.input_ids) for row in encoded], 0),
    }
    if encoded[0].segments is not None:
        inputs["token_type_ids"] = pad([row.segments or [] for row in encoded], 0)
    return inputs
