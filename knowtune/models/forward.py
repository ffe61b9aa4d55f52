"""One forward pass over rows of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from knowtune.models.kept_logits import logits_option
from knowtune.models.prompt_mask import prompt_option
from knowtune.text.batches import num_read, pad
from knowtune.text.encoded import IGNORE_INDEX

if TYPE_CHECKING:
    from knowtune.text.encoded import Encoded, Labelled


def forward(model: torch.nn.Module, ids: list[list[int]], labels: list[list[int]] | None = None) -> torch.Tensor:
    """Return the logits of a right-padded batch in float32  # (batch, read, vocabulary).

    Args:
        model: in any mode.
        ids: tokens of each row.
        labels: of each row, -100 for its prompt: only the last positions are read, as many as these need. None for text
            without a prompt: all are.
    """
    inputs = {"input_ids": pad(ids, 0), "attention_mask": pad([[1] * len(row) for row in ids], 0)}
    if labels is None:
        return logits_of(model, inputs)
    targets = pad(labels, IGNORE_INDEX)
    inputs |= prompt_option(model, targets, inputs["attention_mask"])
    return logits_of(model, inputs, num_read(targets))


def logits_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor], num: int = 0) -> torch.Tensor:
    """Return a model's logits in float32: of each token, or of a head  # (batch, read, vocabulary) or (batch, output).

    Prompt-learning methods may put virtual tokens first; tokens are aligned at their end.

    Args:
        model: in any mode.
        inputs: of the pass, on any device.
        num: how many of the last positions are read; 0: all.
    """
    device = next(model.parameters()).device
    given = {name: tensor.to(device) for name, tensor in inputs.items()}
    logits: torch.Tensor = model(**given, **logits_option(model, num)).logits
    return (logits[:, -(num or inputs["input_ids"].shape[1]) :] if logits.ndim == 3 else logits).float().cpu()


def batch_inputs(encoded: Sequence[Encoded | Labelled]) -> dict[str, torch.Tensor]:
    """Pad a batch on the right  # input_ids, attention_mask, token_type_ids where there are segments: (batch, seq)."""
    inputs = {
        "input_ids": pad([row.input_ids for row in encoded], encoded[0].filling),
        "attention_mask": pad([[1] * len(row.input_ids) for row in encoded], 0),
    }
    if encoded[0].segments is not None:
        inputs["token_type_ids"] = pad([row.segments or [] for row in encoded], 0)
    return inputs
