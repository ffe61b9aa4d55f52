"""The gate: how much of each dimension of a state is the base's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Gate(nn.Module):
    """sigmoid([hbar ; h ; h' ; hbar'] W_A W_B), in float32 whatever the states are in.

    As W_A is linear, the mean of the prompt's states is taken of what W_A makes of them, r numbers a token instead of
    2d; `query_part` is that. Weights start as torch's linear layers do, as in the authors' code.

    Args:
        width: d.
        rank: r.
        dropout: on the outputs of W_A and of W_B.
        kind: query, or token for a gate without query.
    """

    def __init__(self, width: int, rank: int, dropout: float, kind: str, device: Any = None) -> None:
        super().__init__()
        self.width, self.has_query = width, kind == "query"
        options: dict[str, Any] = {"bias": False, "device": device, "dtype": torch.float32}
        self.down = nn.Linear((4 if self.has_query else 2) * width, rank, **options)  # W_A^T
        self.up = nn.Linear(rank, width, **options)  # W_B^T
        self.dropout = nn.Dropout(dropout)

    def query_part(self, frozen: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
        """Give what a token adds to the query: h W_1 + h' W_4, where W_A = [W_1 ; W_2 ; W_3 ; W_4]  # (..., r)."""
        weight, width = self.down.weight.float(), self.width
        return functional.linear(frozen, weight[:, :width]) + functional.linear(tuned, weight[:, 3 * width :])

    def forward(self, frozen: torch.Tensor, tuned: torch.Tensor, query: torch.Tensor | None) -> torch.Tensor:
        """Give the gate  # (..., d).

        Args:
            frozen: h, float32  # (..., d)
            tuned: h', float32  # (..., d)
            query: the mean of `query_part` over the prompt  # (..., r); None without query
        """
        weight, start = self.down.weight.float(), self.width if self.has_query else 0
        own = weight[:, start : start + 2 * self.width]  # of the token itself
        low = functional.linear(frozen, own[:, : self.width]) + functional.linear(tuned, own[:, self.width :])
        if query is not None:
            low = low + query
        up = functional.linear(self.dropout(low), self.up.weight.float())
        return torch.sigmoid(self.dropout(up))


def mix(frozen: torch.Tensor, tuned: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Return h' + g (h - h')  # (..., d).

    Computed from the nearer end, so that it lies between both, is h' at 0 and h at 1 bit for bit, and is h wherever
    h' equals h, whatever the gate.
    """
    return torch.lerp(tuned, frozen, gate)
