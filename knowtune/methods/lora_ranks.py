"""Ranks of LoRA by a parameter mask: which modules to spare, and how much room each of the others gets. Ours.

    r_m = round(r s_m / s)      s_m = |mask of m| / |W_m|      s = sum_m s_m (in_m + out_m) / sum_m (in_m + out_m)

m       a module that plain LoRA would change, with the weight W_m: (out_m, in_m)
s_m     the share of its entries that the mask has; s their mean, weighted so that the r_m (in_m + out_m) parameters
        of all modules are, but for rounding, as many as plain LoRA of rank r has
r_m     the module's rank, at most that of W_m; of 0 the module is left out

LoRA changes all entries of a weight. So a mask cannot forbid it one of them, only make its change smaller where few are
free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel


def targets_of(model: PreTrainedModel, config: PeftConfig) -> list[str]:
    """Name the modules that PEFT would change; the model and torch's generator are left as they are."""
    import torch

    from knowtune.methods.peft_adapters import attach_adapter

    with torch.random.fork_rng():
        attached: Any = attach_adapter(model, config)
    modules: list[str] = list(attached.base_model.targeted_module_names)
    attached.unload()
    return modules


def ranks_by_mask(
    model: PreTrainedModel, modules: list[str], mask: Mapping[str, torch.Tensor], rank: int
) -> dict[str, int]:
    """Give each module its rank; modules of rank 0 are left out.

    Args:
        model: a pristine base.
        modules: the paths of those that could be changed.
        mask: parameter name -> flat indices.
        rank: that of all, were their shares equal.

    Raises:
        UserError: the mask has no entry of these modules.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}  # a tied one goes by its first name
    weights: dict[str, torch.Tensor] = {path: model.get_parameter(f"{path}.weight") for path in modules}
    kept = {path: len(mask.get(names[id(weight)], ())) for path, weight in weights.items()}
    if not any(kept.values()):
        raise UserError(
            f"the mask has no entry of the {len(modules)} modules that target_modules names, e.g. {modules[0]}; "
            "use a selection with a wider pattern"
        )
    shares = {path: kept[path] / weight.numel() for path, weight in weights.items()}
    sizes = {path: sum(weight.shape) for path, weight in weights.items()}
    mean = sum(shares[path] * sizes[path] for path in modules) / sum(sizes.values())
    ranks = {path: min(round(rank * shares[path] / mean), *weight.shape) for path, weight in weights.items()}
    return {path: own for path, own in ranks.items() if own}


def patterns_of(ranks: Mapping[str, int], rank: int, alpha: float) -> dict[str, dict[str, Any]]:
    """Write ranks as PEFT's options: rank and alpha by module, so that alpha / r is that of all."""
    other = {f"^{re.escape(path)}": own for path, own in ranks.items() if own != rank}
    return {
        "rank_pattern": other,
        "alpha_pattern": {path: alpha * own / rank for path, own in other.items()},
    }
