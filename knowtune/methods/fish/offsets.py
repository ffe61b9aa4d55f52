"""Where a model's parameters live: which module computes with each, and which parameters are one under two names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


@dataclass
class Place:
    """A module that computes with parameters.

    Args:
        paths: its names in the model, more than one where the module itself is shared.
        names: parameter's name within the module -> its name in the model, in the order of `named_parameters()`.
        tied: of `names`, those that are the same tensor as one of an earlier place -> (path of that, name in it).
    """

    paths: list[str]
    names: dict[str, str] = field(default_factory=dict)
    tied: dict[str, tuple[str, str]] = field(default_factory=dict)


def find_places(model: nn.Module) -> dict[str, Place]:
    """Find every module that computes with parameters, by its first path, with or without adapters attached.

    Modules that PEFT trains and saves whole are left out.
    """
    places: dict[str, Place] = {}
    by_module: dict[int, Place] = {}
    first: dict[int, tuple[str, str]] = {}  # of each parameter: the place and the name where it is met first
    for owner_path, owner, path, module in walk(model):
        if module is owner and id(module) in by_module:
            by_module[id(module)].paths.append(path)
            continue
        place = by_module.setdefault(id(owner), Place([owner_path]))
        for short, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{short}" if path else short
            within = name[len(owner_path) + 1 :] if owner_path else name
            place.names[within] = name
            if id(parameter) in first:
                place.tied[within] = first[id(parameter)]
            else:
                first[id(parameter)] = (owner_path, within)
        if place.names:
            places[place.paths[0]] = place
    return places


def walk(
    model: Any, path: str = "", above: tuple[str, nn.Module] | None = None
) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Yield every module below adapters: path and module of the one that computes with its parameters, then its own.

    Parameters of a module without a forward pass of its own (a list of parameters), or whose parent computes with them
    past it (attention of torch), are computed with by the parent.
    """
    if isinstance(model, AuxiliaryTrainingWrapper):
        return
    model = unwrapped(model)
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
        module = unwrapped(module)
        parent, module = module, module._modules[name]
    return parent, name, module


def parameters_by_name(model: nn.Module, places: dict[str, Place]) -> dict[str, torch.Tensor]:
    """Return the parameters of places by their names in the model, each once."""
    found = {}
    for path, place in places.items():
        module = find_module(model, path)[2] if path else model
        module = unwrapped(module)
        for within, name in place.names.items():
            if within not in place.tied:
                found[name] = resolve(module, within)
    return found


def unwrapped(module: Any) -> Any:
    """Return the module inside adapters."""
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


def resolve(module: Any, within: str) -> torch.Tensor:
    """Return a parameter by its name within a module, through adapters."""
    *path, short = within.split(".")
    for name in path:
        module = module._modules[name]
        module = unwrapped(module)
    parameter: torch.Tensor = getattr(module, short)
    return parameter
