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


@contextmanager
def loading() -> Iterator[None]:
    """Let adapters that are made inside the context wait for the factors in their file."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


class Alone(str):
    """Name of an adapter that stands alone, whatever others are active: the samples it gets are its own.

    It travels with the call, so a forward pass reads no state that another thread, or a pass within a pass, could have
    set. torch.compile follows a pass without such names whole; with them it breaks its graph.
    """

    __slots__ = ()


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
        """Add the change to what the base gave  # (..., out).

        ds scales B and not A x, as PEFT has it, so that one tensor less of the tokens' size is kept for the backward
        pass. Whoever hooks B wants its inputs and outputs, and B is called for them.
        """
        diag, scaling = module.lora_diag[active_adapter], module.scaling[active_adapter]
        if isinstance(active_adapter, Alone) or active_adapter == leader(module, module.active_adapters):
            dropped_out, dropped_in = (factor.to(x.dtype) for factor in factors(module, active_adapter))
            result = _plus(result, functional.linear(x, dropped_in), dropped_out, -1)
        low, up = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x)), module.lora_B[active_adapter]
        if up.bias is not None:  # scaled with the rest
            return result + up(low * diag) * scaling  # type: ignore[no-any-return]
        if up._forward_hooks or up._forward_pre_hooks:
            return result + up(low * (diag * scaling))  # type: ignore[no-any-return]
        return _plus(result, low, up.weight * (diag * scaling))

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


def _plus(result: torch.Tensor, low: torch.Tensor, up: torch.Tensor, sign: int = 1) -> torch.Tensor:
    """Return h + sign up low, in low's type; in one product, so that no tensor of h's size is made twice.

    Args:
        result: h  # (..., out).
        low: (..., r).
        up: (out, r).
        sign: 1 or -1.
    """
    flat = result.to(low.dtype).reshape(-1, result.shape[-1])  # (tokens, out)
    return torch.addmm(flat, low.reshape(-1, low.shape[-1]), up.T, alpha=sign).view(result.shape)


def leader(module: Any, adapters: Sequence[str]) -> str | None:
    """Return which of the adapters drops the most components of a layer, the first of those; None without KaSA."""
    first = None
    for name in adapters:  # a loop, as torch.compile goes through it
        here = isinstance(module.lora_variant.get(name), ReversibleKasa)
        if here and (first is None or module.r[name] > module.r[first]):
            first = name
    return first


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
