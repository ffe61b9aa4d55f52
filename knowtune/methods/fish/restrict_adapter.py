"""Train chosen entries of parameters and leave all others bit-identical: W = W_0 + scatter(values).

FISH-Tuning (arXiv 2504.04050) lays a Fisher mask over the parameters of another adapter. These are small and their
modules are the adapter's own business, so each is re-parametrised by `torch.nn.utils.parametrize`: the optimiser sees
the values alone, whatever it does with them, and W_0 is never written. (The tuner for a base's own large weights,
`knowtune.methods.fish.tuner`, makes no copy of them.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from knowtune.models.masks import num_entries, require_fits


class _Delta(nn.Module):
    """Values at flat indices of a parameter, added to it."""

    indices: torch.Tensor

    def __init__(self, indices: torch.Tensor, like: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("indices", indices.to(like.device), persistent=False)
        # (1, entries): PEFT takes a one-dimensional tensor inside LoRA for what is left of a shard, and warns.
        self.values = nn.Parameter(torch.zeros(1, len(indices), dtype=torch.float32, device=like.device))

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        """W_0 + scatter(values)."""
        flat = original.flatten()
        return flat.index_put((self.indices,), (flat[self.indices] + self.values[0]).to(flat.dtype)).view_as(original)


def restrict(model: nn.Module, mask: Mapping[str, torch.Tensor], keep: Mapping[str, nn.Parameter]) -> None:
    """Freeze a model but for the entries of a mask and the parameters in `keep`.

    Raises:
        UserError: the mask does not fit the model.
    """
    require_fits(mask, {name: tuple(p.shape) for name, p in model.named_parameters()}, "fish")
    assert num_entries(mask)
    model.requires_grad_(False)
    for parameter in keep.values():
        parameter.requires_grad_(True)
    for name, indices in mask.items():
        if len(indices):
            parent, _, key = name.rpartition(".")
            module = model.get_submodule(parent)
            parametrize.register_parametrization(module, key, _Delta(indices, getattr(module, key)))


def is_restricted(model: nn.Module) -> bool:
    """Return whether a model's entries are restricted."""
    return any(isinstance(module, _Delta) for module in model.modules())


def materialise(model: nn.Module) -> None:
    """Write the values into the parameters, and make them ordinary ones again."""
    for module in list(model.modules()):
        chains: Any = getattr(module, "parametrizations", {})
        for key in [key for key, chain in chains.items() if any(isinstance(one, _Delta) for one in chain)]:
            parametrize.remove_parametrizations(module, key, leave_parametrized=True)
