"""Computing with changed copies of a module's parameters: for every module whose operation is not known here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.checkpoint import checkpoint

# They keep their input and a little, trained or not: there is nothing to save.
FRUGAL = (nn.LayerNorm.forward, nn.GroupNorm.forward)


def call_with(module: nn.Module, copies: dict[str, torch.Tensor], args: tuple[Any, ...], options: Any) -> Any:
    """Compute what a module computes, with copies instead of the parameters of these names.

    A trained weight makes autograd keep what it is multiplied with, which a frozen norm does not: its normalised input.
    So small modules are computed again backward, and only their inputs are kept.
    """

    def compute(*args: Any, **options: Any) -> Any:
        with shadow(module, _full_names(module, copies)) as named:
            return torch.func.functional_call(module, named, args, options)

    if any(copy.requires_grad for copy in copies.values()) and is_repeatable(module):
        return checkpoint(compute, *args, use_reentrant=False, **options)
    return compute(*args, **options)


def is_repeatable(module: nn.Module) -> bool:
    """Whether it costs little to compute a module twice, and changes nothing: norms, scales.

    That is, it has no modules inside, no parameters but vectors, no statistics that it might update, no hooks; and it
    would keep more than its inputs.
    """
    vectors = all(parameter.numel() == max(parameter.shape, default=1) for parameter in module.parameters())
    plain = not (module._modules or module._buffers or is_watched(module))
    return vectors and plain and type(module).forward not in FRUGAL


def is_watched(module: nn.Module) -> bool:
    """Whether a module has hooks, or another forward pass than its class."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)


@contextmanager
def shadow(module: nn.Module, copies: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Put copies where a plain attribute hides a parameter of that name, and yield the others, for a functional call.

    FSDP puts such attributes; a functional call would change the parameter behind them, and nothing would come of it.
    """
    before, others = [], {}
    for name, copy in copies.items():
        path, _, short = name.rpartition(".")
        attributes = vars(module.get_submodule(path))
        if short in attributes:
            before.append((attributes, short, attributes[short]))
            attributes[short] = copy
        else:
            others[name] = copy
    try:
        yield others
    finally:
        for attributes, short, value in before:
            attributes[short] = value


def _full_names(module: Any, copies: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name parameters by their full path within a module, adapters inside it counted."""
    named = {}
    for name, copy in copies.items():
        path, current = [], module
        for part in name.split(".")[:-1]:
            current = current._modules[part]
            path.append(part)
            while isinstance(current, BaseTunerLayer):
                current = current.base_layer  # type: ignore[attr-defined]
                path.append("base_layer")
        named[".".join([*path, name.rpartition(".")[2]])] = copy
    return named
