"""One pass over the base's weights for both memories: rows alternate, and the inner adapter changes the tuned ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

ROWS = ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids")  # of a pass, with the batch first

Forward = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Pairing:
    """How the layers of an inner adapter compute for both memories.

    Args:
        layers: each layer with the forward pass that takes its own one's place.
    """

    layers: Sequence[tuple[Any, Forward]]

    @classmethod
    def of(cls, layers: Sequence[tuple[str, Any]]) -> Pairing | None:
        """Make one; None where a layer does more than to compute each row by itself, in order.

        Args:
            layers: path and module of each.
        """
        for path, layer in layers:
            plain = getattr(layer, "get_base_layer", lambda: None)()
            if not isinstance(plain, torch.nn.Linear | Conv1D) or "expert" in path:  # experts sort tokens
                return None
        return cls([(layer, _forward_of(layer)) for _, layer in layers])

    def enter(self) -> None:
        """Let the layers compute for both."""
        for layer, forward in self.layers:
            layer.__dict__["forward"] = forward

    def leave(self) -> None:
        """Let them compute as they do."""
        for layer, _ in self.layers:
            layer.__dict__.pop("forward", None)


def both_rows(given: dict[str, Any]) -> dict[str, Any]:
    """Repeat each row of what a pass takes: once for the base, once for the tuned model."""
    changed = dict(given)
    for name in ROWS:
        if isinstance(part := given.get(name), torch.Tensor):
            changed[name] = part.repeat_interleave(2, 0)
    positions = given.get("position_ids")
    if isinstance(positions, torch.Tensor) and positions.ndim > 1 and positions.shape[-2] > 1:
        changed["position_ids"] = positions.repeat_interleave(2, -2)
    return changed


def _forward_of(layer: Any) -> Forward:
    """Choose how a layer computes for both: of LoRA the change for the tuned rows alone; of others each half apart.

    A partial, so that a copy of the model has the copy's layer in it.
    """
    return partial(_lora_rows, layer) if type(layer) is Linear else partial(_each_half, layer)


def _each_half(layer: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """Compute the base's rows by the base's layer, and the tuned ones as the adapter does."""
    frozen = layer.base_layer(x[0::2].contiguous(), *args, **options)
    tuned = type(layer).forward(layer, x[1::2].contiguous(), *args, **options)
    return torch.stack([frozen, tuned], 1).flatten(0, 1)


def _lora_rows(layer: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """W x for all rows in one product, then B A x added in place to the tuned ones."""
    result: torch.Tensor = layer.base_layer(x, *args, **options)
    tuned, own = x[1::2], result[1::2]
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        down, up = layer.lora_A[name], layer.lora_B[name]
        if name in layer.lora_variant:
            cast = tuned.to(down.weight.dtype)
            own.copy_(layer.lora_variant[name].forward(layer, active_adapter=name, x=cast, result=own))
        else:
            low = functional.linear(tuned.to(down.weight.dtype), down.weight)
            own.add_(functional.linear(low, up.weight, up.bias), alpha=layer.scaling[name])
    return result
