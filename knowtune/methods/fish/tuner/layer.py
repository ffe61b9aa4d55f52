"""A module with a sparse change of its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from knowtune.methods.fish.tuner.copies import call_with, is_watched
from knowtune.methods.fish.tuner.functions import SparseEmbedding, SparseLinear, with_values
from knowtune.methods.fish.tuner.owners import resolve
from knowtune.methods.fish.tuner.values import Change, SparseValues


class FishLayer(SparseValues):
    """Wraps a module, and computes with the changes of the active adapters.

    Linear layers (also GPT-2's) and embeddings compute with the weight changed in place for the time of the operation.
    Every other module, and what overrides their forward pass or has hooks, computes with a copy of each changed
    parameter, made at every step; norms and other small ones are computed again backward, as that keeps less.

    Args:
        base_layer: the module.
        names: of its own parameters, within it, in order.
    """

    def __init__(self, base_layer: nn.Module, names: list[str]) -> None:
        """Borrow nothing."""
        super().__init__(base_layer, names)
        # Of its parameters that are tied: the layer that holds their values, and their name there. A plain dict, so
        # that another layer's values are no parameters of this one.
        self.borrowed: dict[str, tuple[FishLayer, str]] = {}

    def changes(self) -> dict[str, Change]:
        """Return what the active adapters change, but for what is merged; tied parameters included."""
        own = () if self.merged else tuple(name for name in self.active_adapters if name in self.fish_values)
        changes = self.sums(own)
        for name, (layer, there) in self.borrowed.items():
            if there in (lent := layer.changes()):
                changes[name] = lent[there]
        return changes

    def forward(self, *args: Any, **options: Any) -> Any:
        """Compute what the module computes, with changed parameters."""
        if self.disable_adapters:
            for layer in (self, *(layer for layer, _ in self.borrowed.values())):
                if layer.merged:
                    layer.unmerge()
            return self.base_layer(*args, **options)
        changes = self.changes()
        if not changes:
            return self.base_layer(*args, **options)
        known = self.known_operation() if len(args) == 1 and not options else ""
        if known == "embedding":
            entries, values = changes["weight"]
            base: Any = self.base_layer
            return SparseEmbedding.apply(args[0], values, base.weight, entries, base.padding_idx)  # type: ignore[no-untyped-call]
        if known and "weight" in changes:
            return self.linear(args[0], changes, transposed=known == "transposed")
        copies = {name: with_values(resolve(self.base_layer, name), *change) for name, change in changes.items()}
        return call_with(self.base_layer, copies, args, options)

    def linear(self, x: torch.Tensor, changes: dict[str, Change], transposed: bool) -> torch.Tensor:
        """Compute a linear layer, in the type that autocast would take."""
        base: Any = self.base_layer
        bias = base.bias
        if "bias" in changes:
            bias = with_values(bias, *changes["bias"])
        entries, values = changes["weight"]
        device = x.device.type
        if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
            return SparseLinear.apply(x, values, bias, base.weight, entries, transposed)  # type: ignore[no-any-return,no-untyped-call]
        dtype = torch.get_autocast_dtype(device)
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(device, enabled=False):
            return SparseLinear.apply(x.to(dtype), values, bias, base.weight, entries, transposed)  # type: ignore[no-any-return,no-untyped-call]

    def known_operation(self) -> str:
        """Name the operation of the module where it is known to be just that, or ""."""
        base: Any = self.base_layer
        weight = base._parameters.get("weight")
        if is_watched(base) or weight is None or weight.requires_grad or not weight.is_contiguous():
            return ""
        forward = type(base).forward
        if forward is nn.Embedding.forward:
            return "" if base.max_norm is not None or base.scale_grad_by_freq or base.sparse else "embedding"
        return {nn.Linear.forward: "linear", Conv1D.forward: "transposed"}.get(forward, "")

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Return the plain module, its inner modules unwrapped as well."""
        for path, inner in list(self.base_layer.named_modules()):
            if isinstance(inner, FishLayer) and path:
                parent = self.base_layer.get_submodule(path.rpartition(".")[0])
                plain = inner.unload_and_optionally_merge_module(merge, safe_merge, adapter_names)
                setattr(parent, path.rpartition(".")[2], plain)
        if merge:
            self.merge(safe_merge=safe_merge, adapter_names=adapter_names)
        return self.base_layer
