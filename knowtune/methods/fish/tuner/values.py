"""Values and indices of the adapters of one module: by parameter, summed, merged and taken out again."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn

from knowtune.common.errors import UserError
from knowtune.methods.fish.tuner.owners import resolve
from knowtune.methods.fish.tuner.sparse import Entries, add_values

Change = tuple[Entries, torch.Tensor]


class SparseValues(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """Per adapter one vector of values and one of indices over a module's parameters laid end to end.

    Args:
        base_layer: the module.
        names: of its own parameters, within it, in order.
    """

    adapter_layer_names = ("fish_values",)
    other_param_names = ("fish_indices",)

    def __init__(self, base_layer: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = features(base_layer)  # PEFT asks every layer of an adapter for them
        self.training = base_layer.training
        self.ends: dict[str, int] = {}
        end = 0
        for name in names:
            self.ends[name] = end = end + resolve(base_layer, name).numel()
        self.fish_values = nn.ParameterDict()
        self.fish_indices = BufferDict(persistent=True)
        self.merged_adapters: list[str] = []
        self._originals: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []  # of each merge, last one last
        self._known: dict[str, Any] = {}
        self._trainable: dict[str, bool] | None = None

    def update_layer(self, adapter_name: str, indices: torch.Tensor, values: torch.Tensor) -> None:
        """Add an adapter: int64 indices over the parameters laid end to end, and as many values."""
        device = self._device()
        self.fish_indices[adapter_name] = indices.to(device)
        self.fish_values[adapter_name] = nn.Parameter(values.to(device))

    def _device(self) -> torch.device:
        return resolve(self.base_layer, next(iter(self.ends))).device

    def offset(self, name: str) -> int:
        """Where a parameter begins among the parameters laid end to end."""
        return self.ends[name] - resolve(self.base_layer, name).numel()

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Move an adapter to the base's device. Not to its type, as PEFT does: values in bfloat16 would be rounded."""
        if adapter_name not in self.fish_values or self.fish_values[adapter_name].device.type == "meta":
            return
        device = device or self._device()
        self.fish_values[adapter_name] = nn.Parameter(
            self.fish_values[adapter_name].to(device), self.fish_values[adapter_name].requires_grad
        )
        self.fish_indices[adapter_name] = self.fish_indices[adapter_name].to(device, torch.int64)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch adapters on or off; on again, what was frozen is frozen."""
        if not enabled and not self._disable_adapters:
            self._trainable = {name: values.requires_grad for name, values in self.fish_values.items()}
        super().enable_adapters(enabled)
        if enabled and self._trainable is not None:
            for name, values in self.fish_values.items():
                values.requires_grad_(self._trainable.get(name, values.requires_grad))
            self._trainable = None

    def __getattr__(self, name: str) -> Any:
        """Look what is not here up in the wrapped module."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def split(self, adapters: tuple[str, ...]) -> tuple[list[tuple[str, Entries]], list[int], torch.Tensor | None]:
        """Return the entries by parameter, their counts, and where each adapter's values go among them.

        The last is None for one adapter, whose values are the entries in order. Kept until indices change.
        """
        buffers = [self.fish_indices[name] for name in adapters]
        versions = [0 if buffer.is_inference() else buffer._version for buffer in buffers]  # the former never change
        key = [(id(b), version, b.device) for b, version in zip(buffers, versions, strict=True)]
        if self._known.get("key") == (adapters, key):
            return self._known["split"]  # type: ignore[no-any-return]
        every = torch.cat([buffer.long() for buffer in buffers])
        if len(every) and (int(every.min()) < 0 or int(every.max()) >= max(self.ends.values())):
            raise UserError(
                "a FISH adapter has no indices, or indices past its parameters' end; load its weights, onto the model "
                "it was made for, or give FishConfig a mask"
            )
        together, where = (buffers[0].long(), None) if len(adapters) == 1 else every.unique(return_inverse=True)
        entries, sizes, begin = [], [], 0
        for name, end in self.ends.items():
            cut = int(torch.searchsorted(together, end))
            if cut > begin:
                parameter = resolve(self.base_layer, name)
                offset = self.offset(name)
                indices = together[begin:cut] - offset if offset else together[begin:cut]  # no copy without need
                entries.append((name, Entries(indices, parameter.shape)))
                sizes.append(cut - begin)
            begin = cut
        self._known = {"key": (adapters, key), "split": (entries, sizes, where), "buffers": buffers}
        return entries, sizes, where

    def sums(self, adapters: tuple[str, ...]) -> dict[str, Change]:
        """Return entries and values by parameter; values of several adapters at one entry are added."""
        if not adapters:
            return {}
        split, sizes, where = self.split(adapters)
        values = self.fish_values[adapters[0]]
        if where is not None:
            many = torch.cat([self.fish_values[name] for name in adapters])
            values = many.new_zeros(sum(sizes)).index_add(0, where, many)
        parts = (values,) if len(sizes) == 1 else values.split(sizes)
        return {name: (entries, part) for (name, entries), part in zip(split, parts, strict=True)}

    # Merging

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Write adapters into the base's parameters, and keep what stood there.

        Args:
            safe_merge: refuse values that are not finite, before anything of this module is written.
            adapter_names: the active ones, where None.

        Raises:
            ValueError: with `safe_merge`, a merged entry is not finite.
        """
        wanted = adapter_names if adapter_names is not None else self.active_adapters
        here = [name for name in wanted if name in self.fish_values]
        names = check_adapters_to_merge(self, here) if here else []
        if not names:
            return
        with torch.no_grad():
            changes = {name: (e.indices, v.detach()) for name, (e, v) in self.sums(tuple(names)).items()}
            originals, merged = {}, {}
            for name, (indices, values) in changes.items():
                originals[name] = resolve(self.base_layer, name).reshape(-1)[indices]
                merged[name] = add_values(originals[name], values)
                if safe_merge and not bool(merged[name].isfinite().all()):
                    raise ValueError(
                        f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be broken "
                        f"(not finite: {name})"
                    )
            for name, (indices, _) in changes.items():
                _write(resolve(self.base_layer, name), indices, merged[name])
        self._originals.append(({name: indices for name, (indices, _) in changes.items()}, originals))  # type: ignore[arg-type]
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Put back what stood in the base's parameters, bit for bit."""
        if not self.merged and any(name in self.fish_values for name in self.active_adapters):
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self._originals:
            indices, originals = self._originals.pop()
            for name, values in originals.items():
                _write(resolve(self.base_layer, name), indices[name], values)  # type: ignore[index]
        self.merged_adapters = []


def features(module: nn.Module) -> tuple[int | None, int | None]:
    """Return a module's numbers of inputs and outputs, None where it has no such."""
    pairs = [("in_features", "out_features"), ("in_channels", "out_channels"), ("num_embeddings", "embedding_dim")]
    for one, other in [*pairs, ("nx", "nf"), ("embed_dim", "embed_dim")]:
        if hasattr(module, one) and hasattr(module, other):
            return int(getattr(module, one)), int(getattr(module, other))
    return None, None


def _write(parameter: torch.Tensor, indices: torch.Tensor, values: torch.Tensor) -> None:
    """Write entries of a parameter where it lies."""
    data = parameter.data
    flat = data.view(-1) if data.is_contiguous() else data.reshape(-1)
    flat.index_copy_(0, indices.to(flat.device), values.to(flat.device))
    if not data.is_contiguous():
        data.copy_(flat.view_as(data))
