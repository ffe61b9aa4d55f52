"""Replay: sequences that the base knew are learned again beside the new rows, with a loss of their own mean.

    L = L_task + weight * sum_jt l_jt / m

l_jt    the task's loss of the target token t of the replayed sequence j (of a classifier's row: of its label)
m       target tokens of all sequences that are replayed in the step, in all micro-batches and processes

So the loss of the task, and its gradient, are what they are without replay, and `weight` means the same whatever the
lengths. (Rows that are just added to the batch, as is common, would take their part of one mean.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from knowtune.tasks.objective import Objective
    from knowtune.text.encoded import Encoded, Labelled


def replay_losses(objective: Objective, logits: torch.Tensor, sequences: Sequence[Encoded | Labelled]) -> torch.Tensor:
    """Return the loss of each sequence, summed over its target tokens  # (batch,).

    Args:
        objective: the task's.
        logits: of the tuned model  # (batch, seq, vocabulary), or of a head (batch, output).
        sequences: what was read.
    """
    return objective.losses(logits, objective.targets(sequences).to(logits.device))
