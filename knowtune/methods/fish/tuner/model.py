"""Attaches FISH layers to a model, by PEFT's rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import _set_adapter
from torch import nn

from knowtune.methods.fish.tuner.config import FishConfig
from knowtune.methods.fish.tuner.entries import find_entries, matches
from knowtune.methods.fish.tuner.layer import FishLayer
from knowtune.methods.fish.tuner.owners import ParameterOwner, find_module, find_owners, resolve


class FishModel(BaseTuner):  # type: ignore[misc]
    """A model with sparse changes of its parameters.

    Several adapters may be active at once: their values are added. A tied parameter has one set of values, trained by
    all its uses: the module that has it first holds them, the others borrow.
    """

    prefix = "fish_"
    tuner_layer_cls = FishLayer

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **options: Any) -> None:
        """Find the adapter's entries, and wrap the modules that compute with them.

        Raises:
            UserError: the config does not fit the model; nothing is attached then.
        """
        config: Any = self.peft_config[adapter_name]
        owners = find_owners(model)
        saved = config.mask is None and (config.given_counts or config.strategy is None)
        entries = placeholders(config, owners) if saved else find_entries(config, model, owners)
        config.counts = {name: len(indices) for name, indices in entries.items()}
        config.candidate_modules, config.target_modules = config.candidates, None
        self._owners, self._entries = owners, entries
        options.pop("state_dict", None)
        try:
            super().inject_adapter(model, adapter_name, *args, **options)
        finally:
            del self._owners, self._entries

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        return peft_config  # the entries say what is targeted

    def _check_tied_modules(self, model: nn.Module, peft_config: Any) -> None:
        """Tied parameters are no problem here."""

    def _get_tied_target_modules(self, model: nn.Module) -> list[str]:
        return []  # as above: merging writes the one tensor once

    def _check_target_module_exists(self, peft_config: Any, key: str) -> Any:  # type: ignore[override]
        """Whether a module is to be wrapped, or has a layer of an earlier adapter around something that is."""
        owner = self._owners.get(key)
        if owner is not None and self._is_changed(owner):
            return True
        inside = [owner for path, owner in self._owners.items() if path.startswith(f"{key}.")]
        if inside and isinstance(find_module(self.model, key)[2], FishLayer) and any(map(self._is_changed, inside)):
            return True
        return matches(peft_config, peft_config.candidates, key) and False  # PEFT tells excluded from not matched

    def _is_changed(self, owner: ParameterOwner) -> bool:
        return any(name in self._entries or self._first(owner, within) in self._entries
                   for within, name in owner.names.items())  # fmt: skip

    def _first(self, owner: ParameterOwner, within: str) -> str:
        """Return the name of a parameter's tensor where the model has it first."""
        if within not in owner.tied:
            return owner.names[within]
        path, there = owner.tied[within]
        return self._owners[path].names[there]

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module,
        current_key: str, parameter_name: str | None = None,
    ) -> None:  # fmt: skip
        # PEFT does not look inside the layers of earlier adapters, so what lies inside is wrapped with its outside.
        for key, owner in self._owners.items():
            if (key == current_key or key.startswith(f"{current_key}.")) and self._is_changed(owner):
                self._wrap(peft_config, adapter_name, key)

    def _wrap(self, config: FishConfig, adapter_name: str, key: str) -> None:
        """Attach an adapter's entries to the module at a path."""
        owner = self._owners[key]
        layer = self._layer(key)
        for within, (path, there) in owner.tied.items():
            if self._first(owner, within) in self._entries:
                layer.borrowed[within] = (self._layer(path), there)
        if adapter_name in layer.fish_values:
            return
        given = {within: self._entries[name] for within, name in owner.names.items() if name in self._entries}
        indices = [some + (layer.offset(within) if int(some[0]) >= 0 else 0) for within, some in given.items()]
        if not indices:
            return
        together = torch.cat(indices)
        dtype = resolve(layer.base_layer, next(iter(layer.ends))).dtype
        values = torch.zeros(len(together), dtype=dtype)
        if not config.init_weights:
            values = torch.randn(len(together)).mul_(0.1).to(dtype)  # of torch's generator: two adapters differ
        layer.update_layer(adapter_name, together, values)
        layer.fish_values[adapter_name].requires_grad_(adapter_name in self.active_adapters)

    def _layer(self, key: str) -> FishLayer:
        """Return the layer around the module at a path, made where there is none."""
        owner = self._owners[key]
        parent, name, module = find_module(self.model, key)
        if isinstance(module, FishLayer):
            return module
        layer = FishLayer(module, [within for within in owner.names if within not in owner.tied])
        self._replace_module(parent, name, layer, module)
        for path in owner.paths[1:]:
            parent, name, _ = find_module(self.model, path)
            setattr(parent, name, layer)
        return layer

    def trained_entries(self, adapter_name: str) -> Iterator[tuple[str, list[tuple[str, torch.Tensor]]]]:
        """Say which entries of the base's weights an adapter trains.

        Yields:
            The name of a parameter of the adapter, and whose change its values are, end to end: names of weights in
            the base, each with flat indices.
        """
        layers = {id(module): name for name, module in self.named_modules() if isinstance(module, FishLayer)}
        for path, owner in find_owners(self.model).items():
            layer: Any = find_module(self.model, path)[2] if path else self.model
            if id(layer) in layers and adapter_name in layer.fish_values:
                parts = layer.split((adapter_name,))[0]
                changed = [(owner.names[within], entries.indices) for within, entries in parts]
                yield f"{layers[id(layer)]}.fish_values.{adapter_name}", changed

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def _unload_and_optionally_merge(self, *args: Any, **options: Any) -> Any:
        plain: Any = super()._unload_and_optionally_merge(*args, **options)
        for module in list(plain.modules()):
            for name, child in module._modules.items():
                if isinstance(child, FishLayer):  # the further paths of a shared module
                    module._modules[name] = child.base_layer
        return plain

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter. All layers then agree on what is active, also those that never had it."""
        before = list(self.active_adapters)
        super().delete_adapter(adapter_name)
        if adapter_name not in before:
            return
        active = [name for name in before if name != adapter_name] or sorted(self.peft_config)[:1]
        if active:
            _set_adapter(self.model, active)  # of what PEFT trains whole
        for layer in self.model.modules():  # not `self.set_adapter`: that would unmerge what is merged
            if isinstance(layer, FishLayer):
                layer.set_adapter(active)
        self.active_adapter = active

    @classmethod
    def _get_adapter_state_dict(cls, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
        """Select what is saved; indices take four bytes where four are enough."""
        state: dict[str, torch.Tensor] = super()._get_adapter_state_dict(*args, **options)
        for key, tensor in state.items():
            if ".fish_indices." in key and (not len(tensor) or int(tensor.max()) < 2**31):
                state[key] = tensor.int()
        return state

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Name what is saved by the plain model's paths, so that other adapters' layers around it do not matter."""
        saved: str = super()._remove_adapter_name_from_key(key, adapter_name)
        if ".fish_values" in saved or ".fish_indices" in saved:
            saved = saved.replace(".base_layer.", ".")
        return saved

    @classmethod
    def _remap_adapter_state_dict_for_load(cls, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = super()._remap_adapter_state_dict_for_load(*args, **options)
        return {key: tensor.long() if ".fish_indices." in key else tensor for key, tensor in state.items()}


def placeholders(config: FishConfig, owners: dict[str, ParameterOwner]) -> dict[str, torch.Tensor]:
    """Return indices until a saved adapter's are loaded: -1, which no forward pass accepts.

    Raises:
        UserError: the model lacks a parameter of the adapter.
    """
    from knowtune.models.masks import require_fits

    counts = {name: count for name, count in (config.counts or {}).items() if count}
    known = {name: () for owner in owners.values() for name in owner.names.values()}
    require_fits({name: torch.empty(0) for name in counts}, known, "FishConfig.counts")
    return {name: torch.full((count,), -1) for name, count in counts.items()}
