"""Tied weights: one tensor under several names, as often of input and output embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give what a checkpoint of a model holds by name: parameters, lasting buffers; tied ones by the first name."""
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values()}


def untie(model: Any) -> bool:
    """Give every name of a tied parameter a copy of its own, and let the config say so.

    Returns:
        Whether anything was tied.
    """
    seen: set[int] = set()
    tied = False
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) in seen:
                module._parameters[name] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                tied = True
            seen.add(id(parameter))
    if tied:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
    return tied


def tie_again(model: PreTrainedModel) -> None:
    """Tie what `untie` has untied, where all of it is still equal, up to the last bits of a sum."""
    configs = (model.config, model.config.get_text_config())
    for config in configs:
        config.tie_word_embeddings = True
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True).items()
    equal = all(
        torch.allclose(model.get_parameter(one), model.get_parameter(other), rtol=1e-5, atol=1e-7)
        for one, other in pairs
    )
    if equal:
        model.tie_weights()
        return
    for config in configs:
        config.tie_word_embeddings = False
