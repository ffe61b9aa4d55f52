"""Which module computes with each of a model's parameters, and which parameters are one tensor under two names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


@dataclass
class ParameterOwner:
    """A module that computes with parameters.

    Args:
        paths: its names in the model, more than one where the module itself is shared.
        names: parameter's name within the module -> its name in the model, in the order of `named_parameters()`.
        tied: of `names`, those that are the same tensor as one of an earlier module -> (its path, the name in it).
    """

    paths: list[str]
    names: dict[str, str] = field(default_factory=dict)
    tied: dict[str, tuple[str, str]] = field(default_factory=dict)


def find_owners(model: nn.Module) -> dict[str, ParameterOwner]:
    """Find every module that computes with parameters, by its first path, with or without adapters attached.

    Modules that PEFT trains and saves whole are left out.
    """
    owners: dict[str, ParameterOwner] = {}
    by_module: dict[int, ParameterOwner] = {}
    first: dict[int, tuple[str, str]] = {}  # of each parameter: path of its first module, and its name there
    for owner_path, owner_module, path, module in walk(model):
        if module is owner_module and id(module) in by_module:
            by_module[id(module)].paths.append(path)
            continue
        owner = by_module.setdefault(id(owner_module), ParameterOwner([owner_path]))
        for short, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{short}" if path else short
            within = name[len(owner_path) + 1 :] if owner_path else name
            owner.names[within] = name
            if id(parameter) in first:
                owner.tied[within] = first[id(parameter)]
            else:
                first[id(parameter)] = (owner_path, within)
        if owner.names:
            owners[owner.paths[0]] = owner
    return owners


def walk(
    model: Any, path: str = "", above: tuple[str, nn.Module] | None = None
) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Yield every module below adapters: path and module of the one that computes with its parameters, then its own.

    Parameters of a module without a forward pass of its own (a list of parameters), or whose parent computes with them
    past it (attention of torch), are computed with by the parent.
    """
    if isinstance(model, AuxiliaryTrainingWrapper):
        return
    model = unwrap(model)
    passive = type(model).forward is nn.Module.forward or isinstance(above and above[1], nn.MultiheadAttention)
    owner = above if above is not None and passive else (path, model)
    yield owner[0], owner[1], path, model
    for name, child in model._modules.items():
        if child is not None:
            yield from walk(child, f"{path}.{name}" if path else name, owner)


def find_module(model: Any, path: str) -> tuple[Any, str, Any]:
    """Return parent, name in it, and module of a path that does not count adapters."""
    parent, module, name = model, model, ""
    for name in path.split("."):
        module = unwrap(module)
        parent, module = module, module._modules[name]
    return parent, name, module


def parameters_by_name(model: nn.Module, owners: dict[str, ParameterOwner]) -> dict[str, torch.Tensor]:
    """Return the parameters of modules by their names in the model, each once."""
    parameters = {}
    for path, owner in owners.items():
        module = find_module(model, path)[2] if path else model
        module = unwrap(module)
        for within, name in owner.names.items():
            if within not in owner.tied:
                parameters[name] = resolve(module, within)
    return parameters


def unwrap(module: Any) -> Any:
    """Return the module inside adapters."""
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


def resolve(module: Any, within: str) -> torch.Tensor:
    """Return a parameter by its name within a module, through adapters."""
    *path, short = within.split(".")
    for name in path:
        module = module._modules[name]
        module = unwrap(module)
    parameter: torch.Tensor = getattr(module, short)
    return parameter
