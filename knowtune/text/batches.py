"""Pad and batch token sequences; the loss of each token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from knowtune.text.encoded import IGNORE_INDEX


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each next token, 0 where it is not learned or there is none  # (batch, seq).

    Prompt-learning methods may put virtual tokens first; the logits are aligned at their end. The labels are shifted,
    not the logits: a slice of the logits would be filled with zeros and copied in the backward pass.
    """
    if logits.shape[1] != labels.shape[1]:
        logits = logits[:, -labels.shape[1] :]  # (batch, seq, vocabulary)
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
    losses = cross_entropy(
        logits.float().flatten(0, 1), following.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    return losses.view(labels.shape)


def pad(sequences: Sequence[Sequence[int]], value: int, *, left: bool = False) -> torch.Tensor:
    """Stack sequences of unequal length into one tensor  # (batch, longest)."""
    longest = max(len(sequence) for sequence in sequences)
    rows = []
    for sequence in sequences:
        filling = [value] * (longest - len(sequence))
        rows.append([*filling, *sequence] if left else [*sequence, *filling])
    return torch.tensor(rows)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Split row numbers into batches of like length, the longest first (so that too large a batch fails at once)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
