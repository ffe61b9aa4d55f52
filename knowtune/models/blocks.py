"""Transformer blocks of a model, found in its modules: names such as `h.3`, `layers.3` or `experts.3` differ."""

from __future__ import annotations

from typing import Any

import torch


def stacks_of(model: torch.nn.Module) -> dict[str, int]:
    """Find the stacks of blocks: lists of modules that lie in no other list, as experts do.

    Where the config says how deep the model is, lists of this length count, such as those of encoder and decoder. Else
    the one with the most parameters does.

    Returns:
        Name of each stack, and how many blocks it has; nothing where the model has no list of modules.
    """
    lists: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = module
    config: Any = getattr(model, "config", None)
    depth = getattr(config.get_text_config(), "num_hidden_layers", None) if config is not None else None
    fitting = {name: len(blocks) for name, blocks in lists.items() if len(blocks) == depth}
    if fitting or not lists:
        return fitting
    largest = max(lists, key=lambda name: sum(parameter.numel() for parameter in lists[name].parameters()))
    return {largest: len(lists[largest])}


def block_of(name: str, stacks: dict[str, int]) -> tuple[int | None, int]:
    """Tell which block a parameter or buffer belongs to.

    Args:
        name: of the parameter.
        stacks: see `stacks_of`.

    Returns:
        Number of the block, counted from 1, and how many there are; None and 0 outside of the stacks.
    """
    for stack, num in stacks.items():
        if name.startswith(f"{stack}."):
            return int(name[len(stack) + 1 :].partition(".")[0]) + 1, num
    return None, 0
