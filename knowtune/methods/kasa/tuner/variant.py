"""KaSA as a variant of LoRA whose base stays what it is.

    h = W0 x - P (Q x) + eta B (ds * (A x))      W0 - P Q = W0 without its r smallest singular values

W0: (out, in), never written    P: (out, r), Q: (r, in), frozen    A: (r, in), B: (out, r), ds: (r,), trained
eta = alpha / r, or alpha / sqrt(r) by `use_rslora`

Several active adapters drop the components of the one with the highest rank, once, as one after the other truncates the
base in PEFT. A merged layer has a weight of its own, keeps the one from before, and gets that back: so what is tied to
that never changes.

Departures from PEFT's variant (peft 0.21): W0 stays, so the disabled model is the base, other adapters may stand
beside, and a weight that is tied is truncated for this layer alone; a merged weight is computed in float32 and rounded
once; GPT-2's Conv1D works. An adapter's file is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from peft.tuners.lora.variants import KasaLinearVariant
from torch import nn
from torch.nn import functional

from knowtune.methods.kasa.tuner.factors import complete, factors, prepare

_loading: ContextVar[bool] = ContextVar("loading", default=False)
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def switched(switch: ContextVar[bool]) -> Iterator[None]:
    """Set one of the switches below for a time."""
    token = switch.set(True)
    try:
        yield
    finally:
        switch.reset(token)


def loading() -> Any:
    """Let adapters that are made inside the context wait for the factors in their file."""
    return switched(_loading)


def alone() -> Any:
    """Let each adapter inside the context stand alone, whatever others are active: each has samples of its own."""
    return switched(_alone)


class ReversibleKasa(KasaLinearVariant):  # type: ignore[misc]
    """What a LoRA layer does for a KaSA adapter."""

    @staticmethod
    def init(module: Any, adapter_name: str, config: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Add ds, and find P and Q.

        Raises:
            ValueError: the rank leaves nothing of the base's weight.
        """
        rank, smaller = module.r[adapter_name], min(module.in_features, module.out_features)
        if rank >= smaller:
            name = kwargs.get("target_name") or type(module.get_base_layer()).__name__
            raise ValueError(
                f"KaSA requires `r` to be less than min(in_features, out_features), as it drops r singular values: got "
                f"{rank} for {name} ({module.out_features} x {module.in_features}); allowed: at most {smaller - 1}"
            )
        if module.merged:  # P and Q are the base's; PEFT unmerges too, but later
            module.unmerge()
        if not hasattr(module, "lora_diag"):
            module.lora_diag = nn.ParameterDict({})
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_diag")
        prepare(module)
        down = module.lora_A[adapter_name].weight
        module.lora_diag[adapter_name] = nn.Parameter(torch.randn(rank, device=down.device, dtype=down.dtype))
        if not _loading.get():
            complete(module, adapter_name)

    @staticmethod
    def forward(module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any) -> torch.Tensor:
        """Add the change to what the base gave  # (..., out)."""
        scaling = module.scaling[active_adapter]
        if _alone.get() or active_adapter == leader(module, module.active_adapters):
            result = _without(result, x, *factors(module, active_adapter))
        low = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))  # (..., r)
        if module.lora_bias[active_adapter]:  # scaled with the rest
            change = module.lora_B[active_adapter](low * module.lora_diag[active_adapter]) * scaling
        else:
            change = module.lora_B[active_adapter](low * (module.lora_diag[active_adapter] * scaling))
        return result + change  # type: ignore[no-any-return]

    @staticmethod
    def change(module: Any, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of what an adapter changes the base by: dW = second @ first  # (2r, in), (out, 2r)."""
        scaled = module.lora_diag[adapter] * module.scaling[adapter]
        dropped_out, dropped_in = factors(module, adapter)
        up = torch.cat([module.lora_B[adapter].weight * scaled, -dropped_out], 1)
        return torch.cat([module.lora_A[adapter].weight, dropped_in], 0), up

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """Return the merged weight, and put it into the layer, if it is finite: else PEFT refuses it."""
        merged = merged_weight(module, active_adapter, orig_weight)
        if merged.isfinite().all():
            _replace_weight(module, active_adapter, merged)
        return merged

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """Put the merged weight where the base's stands."""
        _replace_weight(module, active_adapter, merged_weight(module, active_adapter, orig_weight.data))

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """Put the weight from before back, bit for bit, and return its values."""
        before: nn.Parameter = module._cache_pop(_before(active_adapter))
        before.data = before.data.to(orig_weight.device, orig_weight.dtype)
        module.get_base_layer().weight = before
        return before.data


def _without(
    result: torch.Tensor, x: torch.Tensor, dropped_out: torch.Tensor, dropped_in: torch.Tensor
) -> torch.Tensor:
    """Return h - P (Q x), in x's type; in one product, so that no tensor of h's size is made twice  # (..., out)."""
    low = functional.linear(x, dropped_in.to(x.dtype)).reshape(-1, dropped_in.shape[0])  # (tokens, r)
    flat = result.to(x.dtype).reshape(-1, result.shape[-1])
    return torch.addmm(flat, low, dropped_out.to(x.dtype).T, alpha=-1).view(result.shape)


def leader(module: Any, adapters: Sequence[str]) -> str | None:
    """Return which of the adapters drops the most components of a layer, the first of those; None without KaSA."""
    here = [name for name in adapters if isinstance(module.lora_variant.get(name), ReversibleKasa)]
    return max(here, key=lambda name: module.r[name], default=None)


@torch.no_grad()
def merged_weight(module: Any, adapter: str, weight: torch.Tensor) -> torch.Tensor:
    """Return W + eta B diag(ds) A - P Q, less what merged adapters have dropped already; in W's type and layout.

    Args:
        module: the layer, in which `adapter` is not merged yet.
        adapter: its name.
        weight: W, with other adapters merged or not.
    """
    kind = torch.promote_types(weight.dtype, torch.float32)
    up = module.lora_B[adapter].weight.to(kind) * (module.lora_diag[adapter].to(kind) * module.scaling[adapter])
    left, right = [up], [module.lora_A[adapter].weight.to(kind)]
    earlier = leader(module, module.merged_adapters)
    if earlier is None or module.r[earlier] < module.r[adapter]:
        for name, sign in ((adapter, -1), (earlier, 1)):
            if name is not None:
                dropped_out, dropped_in = factors(module, name)
                left.append(sign * dropped_out.to(weight.device, kind))
                right.append(dropped_in.to(weight.device, kind))
    change = (torch.cat(left, 1), torch.cat(right, 0))  # (out, .), (., in)
    if module.fan_in_fan_out:
        change = (change[1].T, change[0].T)
    return torch.addmm(weight.to(kind), *change).to(weight.dtype)


def _replace_weight(module: Any, adapter: str, merged: torch.Tensor) -> None:
    """Give a layer a merged weight as a parameter of its own, and keep the base's, which other layers may share."""
    layer = module.get_base_layer()
    module._cache_store(_before(adapter), layer.weight)
    layer.weight = nn.Parameter(merged, requires_grad=layer.weight.requires_grad)


def _before(adapter: str) -> str:
    """Name the weight from before an adapter was merged."""
    return f"kasa_before_{adapter}"
