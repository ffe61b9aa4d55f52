"""Which changes of weights an anchor holds, in a model with a method attached.

    full                theta - theta0 of each parameter; theta0 is one frozen copy, or a teacher's where there is one
    single entries      the values of a tuner that says which entries it trains (`trained_entries`), as FISH does
    plain LoRA          ||s B A||_F^2 = s^2 tr((B^T B)(A A^T)), on the r x r side      A: (r, in), B: (out, r)
    KaSA                the same of all that it changes, what it drops of the base at its start included
    other PEFT types    dW = get_delta_weight of each layer, for the types in `peft_changes.CHANGES`
    `of: parameters`    the parameters that the method trains, against their values at the start

Modules that PEFT trains whole, and biases that it trains beside an adapter, are held against the base's. A new head has
no base value, so nothing holds it. A tied tensor that is trained counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from knowtune.common.errors import UserError
from knowtune.methods.peft_changes import CHANGES, STARTS_ELSEWHERE
from knowtune.preserve.changes import ADAPTER, Change, Delta, Parameter, says_change
from knowtune.preserve.options import INSTEAD

GATE = ".imsm_gate."
WHOLE = f".modules_to_save.{ADAPTER}."  # of a module that PEFT trains whole
Fisher = Callable[[str], torch.Tensor]  # of a weight's name in the base: F in its shape, float32


def find_changes(
    model: Any, *, of: str, where: str, fisher: Fisher | None = None, start: Mapping[str, torch.Tensor] | None = None
) -> list[Change]:
    """Find what an anchor holds.

    Args:
        model: with the method attached, before it is trained.
        of: change, or parameters.
        where: the key of the anchor, for messages.
        fisher: of the base's weights; None for 1 everywhere.
        start: the base's parameters where another part keeps them anyway; else those that move are copied.

    Raises:
        UserError: the method computes no change that can be had as a matrix, or nothing is left to hold.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    new = set(getattr(base, "new_weights", []))
    weights: dict[int, str] = {}  # of each tensor: its first name in the base
    for name, parameter in model.named_parameters():
        weights.setdefault(id(parameter), plain_name(name))
    changes: list[Change] = list(_of_entries(model, fisher))
    if of == "change" and hasattr(model, "peft_config"):
        _require_deltas(model, where, fisher)
        changes += _of_layers(model, weights, fisher)
    covered = _covered(model, changes)
    for name, parameter in model.named_parameters():
        weight = plain_name(name)
        if not parameter.requires_grad or id(parameter) in covered or weight in new:
            continue
        if of == "change" and GATE in name:  # it mixes what is said, and changes no weight
            continue
        if of == "change" and ADAPTER in name.split(".") and WHOLE not in name:
            raise _no_change(model, where, name, fisher)
        changes.append(
            Parameter(name, weight, _start(name, parameter, start), None if fisher is None else fisher(weight))
        )
    if not changes:
        raise UserError(f"{where}: nothing to hold: all that is trained is new, and has no value in the base")
    return changes


def plain_name(name: str) -> str:
    """Return the name that a parameter has, or would have, in the base without an adapter."""
    name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return name.replace(WHOLE, ".").replace(".original_module.", ".")


def _of_entries(model: Any, fisher: Fisher | None) -> Iterator[Parameter]:
    """Find the values of a tuner that trains single entries of the base's weights, with those entries' information."""
    tuner: Any = getattr(model, "base_model", None)
    for name, changed in tuner.trained_entries(ADAPTER) if hasattr(tuner, "trained_entries") else ():
        information = None
        if fisher is not None:
            parts = [fisher(weight).flatten()[indices.cpu()] for weight, indices in changed]
            information = torch.cat(parts).to(changed[0][1].device)
        yield Parameter(f"base_model.{name}", "", None, information)


def _of_layers(model: Any, weights: Mapping[int, str], fisher: Fisher | None) -> Iterator[Delta]:
    """Find the layers whose adapter computes a dW."""
    layer: Any
    for path, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        if hasattr(layer, "get_delta_weight") and _trained(layer):
            weight: Any = layer.get_param() if hasattr(layer, "get_param") else layer.get_base_layer().weight
            name = weights[id(weight)]
            yield Delta(path, name, None if fisher is None else fisher(name).to(weight.device))


def _trained(layer: Any) -> list[torch.Tensor]:
    """List what an adapter trains in a layer."""
    return [p for name, p in layer.named_parameters() if p.requires_grad and not name.startswith("base_layer.")]


def _covered(model: Any, changes: Sequence[Change]) -> set[int]:
    """Give the identities of the parameters of changes."""
    named = dict(model.named_parameters())
    own = [
        [named[one.name]] if isinstance(one, Parameter) else _trained(model.get_submodule(one.path)) for one in changes
    ]
    return {id(parameter) for parameters in own for parameter in parameters}


def _start(name: str, parameter: torch.Tensor, start: Mapping[str, torch.Tensor] | None) -> torch.Tensor | str:
    """Return a parameter's value at the start: PEFT's own copy, another part's, or one made here."""
    if WHOLE in name:
        return name.replace(WHOLE, ".original_module.")
    return start[name].detach() if start is not None and name in start else parameter.detach().clone()


def _require_deltas(model: Any, where: str, fisher: Fisher | None) -> None:
    """Refuse an adapter whose layers do not say how it changes the base's weights."""
    config = model.peft_config[ADAPTER]
    config = getattr(config, "inner", None) or config  # of two memories the tuned one's
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    if kind != "fish" and kind not in CHANGES:
        raise _no_change(model, where, kind, fisher)
    initial = str(getattr(config, "init_lora_weights", "")).lower()
    if initial.startswith(STARTS_ELSEWHERE):
        raise _refusal(where, f"{initial} starts by changing the base's weights", fisher)
    for path, layer in model.named_modules():
        other = ADAPTER in getattr(layer, "lora_variant", {}) and not says_change(layer)
        if other or getattr(layer, "lora_bias", {}).get(ADAPTER):
            raise _no_change(model, where, path, fisher)


def _no_change(model: Any, where: str, name: str, fisher: Fisher | None) -> UserError:
    """Say that a method computes no dW."""
    kind = model.peft_config[ADAPTER].peft_type
    fault = f"{name} of PEFT's {str(getattr(kind, 'value', kind)).lower()} gives no change of weights"
    return _refusal(where, fault, fisher)


def _refusal(where: str, fault: str, fisher: Fisher | None) -> UserError:
    """Say what cannot be held by its change, and what can be done: EWC holds nothing but the change."""
    got, allowed = ("of: change", "of: parameters") if fisher is None else ("form: ewc", INSTEAD)
    return UserError(f"{where}: got {got}, but {fault}; allowed: {allowed}")
