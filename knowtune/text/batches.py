"""Pad and batch token sequences; the loss of each token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from knowtune.text.encoded import IGNORE_INDEX


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each next token, 0 where it is not learned or there is none  # (batch, seq).

    The logits are aligned at their end: prompt-learning methods may put virtual tokens first, and there may be those of
    the last `num_read` positions alone. The labels are shifted, not the logits: a slice of the logits would be filled
    with zeros and copied in the backward pass.
    """
    if logits.shape[1] > labels.shape[1]:
        logits = logits[:, -labels.shape[1] :]  # (batch, read, vocabulary)
    read = logits.shape[1]
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)[:, -read:]
    losses = cross_entropy(
        logits.float().flatten(0, 1), following.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    return torch.nn.functional.pad(losses.view(following.shape), (labels.shape[1] - read, 0))


def num_read(labels: torch.Tensor) -> int:
    """Count the last positions of a batch whose logits its learned tokens need, from the first such one; 0: all.

    Args:
        labels: -100 where nothing is learned  # (batch, seq).
    """
    learned = (labels[:, 1:] != IGNORE_INDEX).any(0)  # by the token after each position  # (seq - 1,)
    first = int(learned.int().argmax()) if len(learned) else 0
    return labels.shape[1] - first if first else 0


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
