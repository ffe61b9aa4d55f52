"""P and Q of each layer: what its base weight loses, beside a weight that is never written.

They are buffers of the layer, so that they follow it to other devices, and are no part of a state dict: the adapter's
file stays PEFT's. They are found when an adapter is attached. When one is loaded they come from the file beside it, or
are found where it has none. Where the base's weight is on the meta device, that waits until it is needed.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import onload_layer
from peft.utils.integrations import gather_params_ctx

from knowtune.methods.kasa.tuner.decompose import smallest_components

NAMES = ("kasa_P", "kasa_Q")
TOLERANCE = 1e-6  # of the weight's norm; what a truncated weight may be off by
ROUNDING = 2**-8  # of the weight's norm; rounding to bfloat16 moves it by less, twice even
FOREIGN = "are of another base: the adapter was trained on other weights than these, and does not belong to them"
Factors = tuple[torch.Tensor, torch.Tensor]


def prepare(layer: Any) -> None:
    """Give a LoRA layer room for factors."""
    if not hasattr(layer, NAMES[0]):
        layer.other_param_names = (*layer.other_param_names, *NAMES)  # deleted with an adapter
        for name in NAMES:
            setattr(layer, name, BufferDict(persistent=False))


def has_factors(layer: Any, adapter: str) -> bool:
    """Say whether a layer's factors are there."""
    return adapter in getattr(layer, NAMES[0], {})


def factors(layer: Any, adapter: str) -> Factors:
    """Return P and Q  # (out, r), (r, in). Found here where they are missing.

    Raises:
        RuntimeError: they are missing, and the base's weight is on the meta device.
        ValueError: the base's weight is not finite.
    """
    if not has_factors(layer, adapter) and complete(layer, adapter):
        warnings.warn(f"KaSA's factors {FOREIGN}", stacklevel=2)
    if not has_factors(layer, adapter):
        raise RuntimeError(
            "KaSA cannot decompose a base weight that is on the meta device; load the base's weights first"
        )
    return layer.kasa_P[adapter], layer.kasa_Q[adapter]


def complete(layer: Any, adapter: str, given: Factors | None = None) -> bool:
    """Put factors into a layer, if its weight is there; those that are given, where they fit the weight.

    Factors that do not fit are of another base, or of the same in another type: then they are found again. Given ones
    for a weight on the meta device are kept until it comes.

    Returns:
        Whether the given ones are of another base, by more than a type's rounding.

    Raises:
        RuntimeError: adapters are merged into the weight.
    """
    if layer.merged:
        raise RuntimeError("KaSA decomposes the base's weight, and adapters are merged into it; unmerge them first")
    waiting = f"kasa_given_{adapter}"
    given = given or layer._caches.get(waiting)
    with onload_layer(layer), gather_params_ctx(layer.get_base_layer().weight):
        weight = plain_weight(layer)
        if weight.device.type == "meta":
            if given is not None:
                layer._cache_store(waiting, given)
            return False
        if given is not None:
            given = (given[0].to(weight.device), given[1].to(weight.device))
        missed, held = (0.0, 0.0) if given is None else misfit(weight, *given)
        if given is None or given[0].shape[1] != layer.r[adapter] or not missed <= TOLERANCE:
            given = smallest_components(weight, layer.r[adapter])
    layer._caches.pop(waiting, None)
    layer.kasa_P[adapter], layer.kasa_Q[adapter] = given
    return min(missed, held) > ROUNDING


def plain_weight(layer: Any) -> torch.Tensor:
    """Return the base's weight as a linear layer has it  # (out, in)."""
    weight: torch.Tensor = layer.get_base_layer().weight.detach()
    return weight.T if layer.fan_in_fan_out else weight


def packing(weight: torch.Tensor) -> str:
    """Say how a weight's entries are packed, so that it cannot be decomposed; "" for a plain one.

    Quantised ones are tensors of a class with products of its own, or of a type with fewer than 16 bits. Torch's own
    classes of that kind, on several devices or without values, hold plain entries.
    """
    if not weight.is_floating_point() or weight.dtype.itemsize < 2:
        return f"packed as {str(weight.dtype).removeprefix('torch.')}"
    kind = type(weight)
    if kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
        return ""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.distributed.tensor import DTensor

    return "" if issubclass(kind, FakeTensor | DTensor) else f"packed in a {kind.__name__}"


def misfit(weight: torch.Tensor, dropped_out: torch.Tensor, dropped_in: torch.Tensor) -> tuple[float, float]:
    """Say by how much P Q is no part of W: |W Q^T - P| where Q's rows are orthonormal, or |P^T W - Q|, over |W|.

    That is one thin product, and no decomposition. It is 0 for whatever singular vectors P and Q were taken from this
    weight; those of another weight miss by what that weight differs by.

    Args:
        weight: W  # (out, in).
        dropped_out: P  # (out, r).
        dropped_in: Q  # (r, in).

    Returns:
        That, and what W has there at all, |W Q^T| over |W|: nothing where W has lost P Q already. Infinite for other
        shapes.
    """
    shapes = (dropped_out.shape[0], dropped_in.shape[1]), dropped_out.shape[1]
    if shapes != (tuple(weight.shape), dropped_in.shape[0]):
        return float("inf"), float("inf")
    if weight.shape[0] < weight.shape[1]:
        return misfit(weight.T, dropped_in.T, dropped_out.T)
    vectors, lacking, held, square = dropped_in.double().T, 0.0, 0.0, 0.0
    for rows, expected in zip(weight.split(2048), dropped_out.split(2048), strict=True):
        exact = rows.double()
        product = exact @ vectors
        lacking += float((product - expected).square().sum())
        held += float(product.square().sum())
        square += float(exact.square().sum())
    if not square:
        return lacking, 0.0
    return (lacking / square) ** 0.5, (held / square) ** 0.5
