"""The objective of a language model: cross-entropy of the next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from knowtune.tasks.objective import Objective
from knowtune.text import batches
from knowtune.text.batches import token_losses
from knowtune.text.encoded import IGNORE_INDEX


class NextToken(Objective):
    """Cross-entropy of the next token in nats. Targets are labels, -100 where nothing is learned  # (batch, seq)."""

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Return the labels  # (batch, seq)."""
        return batches.pad([row.labels for row in encoded], IGNORE_INDEX)

    def target_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each learned token, at the position of the token before it  # (batch, seq).

        The logits are those of all positions, or of the last `num_read`.
        """
        return token_losses(logits, targets)

    def num_read(self, targets: torch.Tensor) -> int:
        """Count from the position before the first learned token on."""
        return batches.num_read(targets)

    def target_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Return True where the token after this one is learned  # (batch, seq)."""
        return pad(targets[:, 1:] != IGNORE_INDEX, (0, 1))

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Draw a token from the model at every learned position, after the true tokens before it."""
        learned = targets[:, 1:] != IGNORE_INDEX
        shares = logits[:, -targets.shape[1] :][:, :-1][learned].float().softmax(-1).cpu()  # (learned, vocabulary)
        of_rows = list(zip(shares.split(learned.sum(1).tolist()), generators, strict=True))
        for _ in range(draws):
            drawn = targets.clone()
            tokens = [
                torch.multinomial(own, 1, generator=own_generator).squeeze(1)
                for own, own_generator in of_rows
                if len(own)
            ]
            drawn[:, 1:][learned] = torch.cat(tokens).to(targets.device)
            yield drawn, torch.full((len(targets),), 1 / draws, device=targets.device)
