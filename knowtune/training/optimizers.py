"""Muon for the matrices inside the network, AdamW for everything else, as one optimizer.

Muon (Jordan et al., 2024) orthogonalises the momentum of a matrix before the step. On the embedded base it learns
the known facts in a third of AdamW's steps (docs/decisions/0004). Both parts are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon and AdamW side by side; a scheduler sees the groups of both.

    Args:
        model: its 2-D weights go to Muon, less the embeddings and the output head; the rest to AdamW.
        learning_rate: AdamW's; Muon's is ten times that.
        weight_decay: AdamW's; Muon has none.
    """

    def __init__(self, model: torch.nn.Module, learning_rate: float, weight_decay: float) -> None:
        """Split the parameters and make both optimizers."""
        embeddings = {
            id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters(recurse=False)
        }
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        inner = [p for name, p in named if p.ndim == 2 and id(p) not in embeddings and "lm_head" not in name]
        chosen = {id(p) for p in inner}
        rest = [p for _, p in named if id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(inner, lr=10 * learning_rate, weight_decay=0.0),
            torch.optim.AdamW(rest, lr=learning_rate, weight_decay=weight_decay, fused=True),
        ]
        super().__init__([{"params": inner}, {"params": rest}], {})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Give both states."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both states back; the groups that a scheduler knows stay the same objects' values."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
