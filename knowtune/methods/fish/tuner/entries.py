"""Which entries a FISH adapter trains, from its config and the model: parameter name -> flat indices."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers.pytorch_utils import Conv1D

from knowtune.common.errors import UserError, nearest
from knowtune.common.statistics import apportion, share_of
from knowtune.methods.fish.tuner.config import FishConfig, Modules
from knowtune.methods.fish.tuner.owners import ParameterOwner, find_module, parameters_by_name
from knowtune.models.masks import (
    Mask,
    num_entries,
    random_entries,
    read_mask,
    require_fits,
    top_entries,
    top_entries_per_parameter,
)

WHERE = "FishConfig"


def find_entries(config: FishConfig, model: nn.Module, owners: Mapping[str, ParameterOwner]) -> Mask:
    """Return the entries that a config means in a model, without parameters that have none.

    Raises:
        UserError: the mask does not fit the model, or the rule chooses nothing.
    """
    parameters = parameters_by_name(model, dict(owners))
    if config.mask is None:
        chosen = choose(config, model, owners, parameters)
    else:
        given = config.mask
        mask = read_mask(Path(given)) if isinstance(given, str | os.PathLike) else tidy(given)
        refuse_tied(mask, owners)
        require_fits(mask, {name: tuple(p.shape) for name, p in parameters.items()}, f"{WHERE}.mask")
        chosen = {name: indices for name, indices in mask.items() if len(indices)}
        if not chosen:
            raise UserError(f"{WHERE}.mask: the mask is empty, so there is nothing to train; give it entries")
    refuse_reserved(chosen, config.modules_to_save or [])
    for name in chosen:
        require_plain(name, parameters[name])
    root = [name for name in chosen if "." not in name]
    if root:
        raise UserError(
            f"{WHERE}: {root[0]!r} belongs to the model itself, around which no adapter fits; leave it out of the mask"
        )
    return chosen


def tidy(mask: Mapping[str, torch.Tensor]) -> Mask:
    """Return a mask with its indices in order, on the CPU.

    Raises:
        UserError: something in it is no list of different int64 indices from 0 on.
    """
    tidied: Mask = {}
    for name, indices in mask.items():
        fits = isinstance(indices, torch.Tensor) and indices.dtype == torch.int64 and indices.ndim == 1
        ordered = indices.detach().cpu().sort().values if fits else torch.tensor([-1])
        if bool((ordered < 0).any()) or bool((ordered.diff() == 0).any()):
            raise UserError(f"{WHERE}.mask: {name}: allowed: different flat indices from 0 on, one-dimensional, int64")
        tidied[name] = ordered
    return tidied


def choose(
    config: FishConfig, model: nn.Module, owners: Mapping[str, ParameterOwner], parameters: Mapping[str, torch.Tensor]
) -> Mask:
    """Choose entries by a rule among the candidates."""
    candidates = find_candidates(config, model, owners, parameters)
    for name, parameter in candidates.items():
        require_plain(name, parameter)
    shapes = {name: tuple(parameter.shape) for name, parameter in candidates.items()}
    total = sum(parameter.numel() for parameter in candidates.values())
    num = config.num_parameters if config.num_parameters is not None else share_of(config.budget or 0, total)
    if not 1 <= num <= total:
        raise UserError(f"{WHERE}: the budget is {num:,} entries; allowed: 1 to {total:,}, the candidates' entries")
    if config.strategy == "random":
        import numpy as np

        generator = np.random.default_rng(config.seed)
        if not config.per_parameter:
            chosen = random_entries(shapes, num, generator)
        else:
            shares = apportion(num, {name: parameter.numel() for name, parameter in candidates.items()})
            chosen = {name: random_entries({name: shapes[name]}, shares[name], generator)[name] for name in shapes}
    else:
        top = top_entries_per_parameter if config.per_parameter else top_entries
        chosen = top({name: parameter.detach().abs() for name, parameter in candidates.items()}, num)
    assert num_entries(chosen) == num
    return {name: indices for name, indices in chosen.items() if len(indices)}


def find_candidates(
    config: FishConfig, model: nn.Module, owners: Mapping[str, ParameterOwner], parameters: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the parameters that a rule may choose of.

    Raises:
        UserError: no module has the names that the config gives.
    """
    targets = config.candidates
    if targets == "all-linear":
        targets = all_linear(model, owners)
    candidates = {
        name: parameters[name]
        for path, owner in owners.items()
        if path and any(matches(config, targets, each) for each in owner.paths)
        for within, name in owner.names.items()
        if within not in owner.tied and not is_reserved(name, config.modules_to_save or [])
    }
    if not candidates:
        known = {path.rpartition(".")[2] for path in owners if path}
        hints = [hint for name in _names(config.candidates) if (hint := nearest(name, known))]
        raise UserError(
            f"{WHERE}.target_modules: {config.candidates!r} leaves no parameter to choose of; modules with parameters "
            f"end on: {', '.join(sorted(known))}" + (f"; did you mean {', '.join(hints)}?" if hints else "")
        )
    return candidates


def matches(config: FishConfig, targets: Modules | None, path: str) -> Any:
    """Whether PEFT takes a module for a target of a config, `targets` instead of its `target_modules`."""
    rule: Any = SimpleNamespace(**{**vars(config), "target_modules": ".*" if targets is None else targets})
    return check_target_module_exists(rule, path)


def _names(modules: Iterable[str] | None) -> list[str]:
    return [modules] if isinstance(modules, str) else sorted(modules or [])


def all_linear(model: nn.Module, owners: Mapping[str, ParameterOwner]) -> set[str]:
    """Name the linear modules but the output layer, as PEFT's all-linear does."""
    getter = getattr(model, "get_output_embeddings", None)
    output: Any = getter() if getter is not None else None
    output = getattr(output, "base_layer", output)
    linear = set()
    for path in owners:
        module: Any = find_module(model, path)[2] if path else model
        module = getattr(module, "base_layer", module)
        if isinstance(module, nn.Linear | Conv1D) and module is not output:
            linear.add(path)
    return linear


def is_reserved(name: str, modules_to_save: Iterable[str]) -> bool:
    """Whether a parameter is of a module that is trained and saved whole; by PEFT's rule for names."""
    return any(re.match(rf"(^|.*\.){module}($|\..*)", name) for module in modules_to_save)


def refuse_reserved(mask: Mask, modules_to_save: Iterable[str]) -> None:
    """Refuse entries of modules that are trained whole anyway."""
    for name in mask:
        if is_reserved(name, modules_to_save):
            raise UserError(
                f"{WHERE}.mask: {name!r} is of a module that is trained and saved whole (modules_to_save: "
                f"{', '.join(modules_to_save)}); leave it out of the mask"
            )


def refuse_tied(mask: Mask, owners: Mapping[str, ParameterOwner]) -> None:
    """Refuse the second name of a tied parameter, and say the first."""
    for owner in owners.values():
        for within, (path, first) in owner.tied.items():
            if owner.names[within] in mask:
                raise UserError(
                    f"{WHERE}.mask: {owner.names[within]!r} is the same tensor as {owners[path].names[first]!r}; "
                    "use that name, both uses are trained by it"
                )


def require_plain(name: str, parameter: torch.Tensor) -> None:
    """Refuse what has no plain values to change: quantised weights, and weights that are not loaded.

    Raises:
        UserError: names the parameter and what to do.
    """
    if parameter.device.type == "meta":
        raise UserError(f"{WHERE}: {name!r} is on the meta device, it has no values yet; load the base's weights first")
    plain = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    if parameter.dtype not in plain or hasattr(parameter, "quant_state"):
        raise UserError(
            f"{WHERE}: {name!r} is quantised or not of floating point ({parameter.dtype}); a sparse change needs plain "
            "weights. Load the base unquantised, or keep this module out (mask, target_modules, exclude_modules)"
        )
