"""Fisher information about several sources on one scale: each scaled to mean 1, then added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_scaled(total: dict[str, torch.Tensor], fisher: Mapping[str, torch.Tensor]) -> None:
    """Add Fisher information to a total, scaled so that its mean over all entries is 1.

    Args:
        total: what was added before, by name; it is changed.
        fisher: of one source, in the parameters' shapes, with an entry that is not zero.
    """
    mean = entries_sum(fisher) / sum(values.numel() for values in fisher.values())
    for name, values in fisher.items():
        total[name] = total[name] + values / mean if name in total else values / mean


def entries_sum(values: Mapping[str, torch.Tensor], mask: Mapping[str, torch.Tensor] | None = None) -> float:
    """Sum over all entries, or over those of a mask of flat indices, in double precision."""
    import torch

    if mask is None:
        return math.fsum(float(part.sum(dtype=torch.float64)) for part in values.values())
    flat = {name: part.flatten() for name, part in values.items() if name in mask}
    return math.fsum(float(p[mask[name].to(p.device)].sum(dtype=torch.float64)) for name, p in flat.items())
