"""The one place where PEFT's KaSA becomes ours: its variant, its check of mixtures, and its way to disk and back.

A linear layer of PEFT's lists its variants when an adapter is added, and one line of that list changes. Three wrappers
follow from what ours is: adapters may be mixed, the samples of a batch may each have another one, and the base comes
back when adapters are unloaded. Three more keep the factors beside the adapter, and two refuse what PEFT would compute
wrongly. None touches adapters of another kind.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowtune.methods.kasa.limits import STARTS, WRITES_BASE, writes_base
from knowtune.methods.kasa.tuner.factors import packing
from knowtune.methods.kasa.tuner.files import load_factors, save_factors
from knowtune.methods.kasa.tuner.variant import Alone, ReversibleKasa, loading

_kept: list[tuple[Any, str, Any]] = []  # owner, name, and what PEFT has there


def install() -> None:
    """Put ours in the place of PEFT's; once is enough, more does no harm."""
    from peft import PeftModel
    from peft.tuners.lora.layer import Linear, LoraLayer
    from peft.tuners.lora.model import LoraModel
    from peft.tuners.tuners_utils import BaseTuner

    if _kept:
        return
    from_pretrained = vars(PeftModel)["from_pretrained"].__func__
    _replace(Linear, "lora_variants", property(_with_ours(vars(Linear)["lora_variants"].fget)))
    _replace(LoraModel, "_check_new_adapter_config", _mixing(LoraModel._check_new_adapter_config))
    _replace(LoraModel, "add_weighted_adapter", _without_kasa(LoraModel.add_weighted_adapter))
    _replace(LoraLayer, "update_layer", _with_its_variant(LoraLayer.update_layer))
    _replace(BaseTuner, "unload", _unmerged(BaseTuner.unload))
    _replace(LoraLayer, "_mixed_batch_forward", _each_alone(LoraLayer._mixed_batch_forward))
    _replace(PeftModel, "save_pretrained", _saving(PeftModel.save_pretrained))
    _replace(PeftModel, "load_adapter", _loading(PeftModel.load_adapter))
    _replace(PeftModel, "from_pretrained", classmethod(_within(loading, from_pretrained)))


@contextmanager
def as_in_peft() -> Iterator[None]:
    """Have PEFT's own KaSA for a time, to compare with. An adapter that is made inside stays PEFT's."""
    ours = [(owner, name, vars(owner)[name]) for owner, name, _ in _kept]
    for owner, name, original in _kept:
        setattr(owner, name, original)
    try:
        yield
    finally:
        for owner, name, replacement in ours:
            setattr(owner, name, replacement)


def _replace(owner: Any, name: str, replacement: Any) -> None:
    """Set an attribute of PEFT's, and keep what it was."""
    _kept.append((owner, name, vars(owner)[name]))
    setattr(owner, name, replacement)


def _within(context: Callable[[], Any], call: Any) -> Any:
    """Run a function inside a context."""

    @functools.wraps(call)
    def inside(*args: Any, **options: Any) -> Any:
        with context():
            return call(*args, **options)

    return inside


def _with_ours(variants: Any) -> Any:
    """List the variants of a layer, ours among them."""

    @functools.wraps(variants)
    def lora_variants(self: Any) -> dict[tuple[str, ...], Any]:
        return {**variants(self), ("kasa_config",): ReversibleKasa}

    return lora_variants


def _mixing(check: Any) -> Any:
    """Check a new adapter as if none were KaSA: PEFT refuses KaSA beside others, as it truncates what they share."""

    @functools.wraps(check)
    def check_config(self: Any, config: Any) -> None:
        configs = [one for one in (config, *self.peft_config.values()) if getattr(one, "kasa_config", None) is not None]
        hidden = [(one, one.kasa_config) for one in {id(one): one for one in configs}.values()]
        for one, _ in hidden:
            one.kasa_config = None
        try:
            check(self, config)
        finally:
            for one, options in hidden:
                one.kasa_config = options

    return check_config


def _with_its_variant(update: Any) -> Any:
    """Add an adapter to a layer, but no KaSA that would not be one.

    Quantised layers ignore KaSA and train plain LoRA; and of a base that LoRA's start writes to, P and Q would be found
    too late, and nothing could give it back.
    """

    @functools.wraps(update)
    def update_layer(self: Any, *args: Any, **options: Any) -> Any:
        config = inspect.signature(update).bind(self, *args, **options).arguments["config"]
        if config.kasa_config is not None:
            layer = self.get_base_layer()
            packed = "packed" if self.resolve_lora_variant(config=config) is None else packing(layer.weight)
            if packed:
                raise ValueError(
                    f"KaSA decomposes a weight, and that of a {type(layer).__name__} is {packed}; load the "
                    "base without quantisation, or take LoRA"
                )
            if writes_base(config.init_lora_weights):
                raise ValueError(f"init_lora_weights: {config.init_lora_weights!r}: {WRITES_BASE}; allowed: {STARTS}")
        return update(self, *args, **options)

    return update_layer


def _each_alone(forward: Any) -> Any:
    """Run a batch whose samples have adapters of their own: each of these stands alone."""

    @functools.wraps(forward)
    def mixed_batch_forward(self: Any, x: Any, *args: Any, adapter_names: list[str], **options: Any) -> Any:
        return forward(self, x, *args, adapter_names=[Alone(name) for name in adapter_names], **options)

    return mixed_batch_forward


def _unmerged(unload: Any) -> Any:
    """Take adapters off, and KaSA's change out of the weights that it was merged into."""

    @functools.wraps(unload)
    def unload_all(self: Any) -> Any:
        for layer in self.model.modules():
            variants = getattr(layer, "lora_variant", {})
            if any(isinstance(variants.get(name), ReversibleKasa) for name in getattr(layer, "merged_adapters", ())):
                layer.unmerge()
        return unload(self)

    return unload_all


def _without_kasa(combine: Any) -> Any:
    """Combine adapters by weights, but no KaSA: PEFT combines A and B, and the new adapter would have random ds."""

    @functools.wraps(combine)
    def add_weighted_adapter(self: Any, adapters: list[str], *args: Any, **options: Any) -> Any:
        refused = [name for name in adapters if getattr(self.peft_config.get(name), "kasa_config", None) is not None]
        if refused:
            raise ValueError(
                f"KaSA adapters cannot be combined by weights, as their singular values would be lost: {refused}; "
                "merge each, and combine the merged models"
            )
        return combine(self, adapters, *args, **options)

    return add_weighted_adapter


def _saving(save: Any) -> Any:
    """Save an adapter, and its factors beside it."""

    @functools.wraps(save)
    def save_pretrained(self: Any, save_directory: Any, *args: Any, **options: Any) -> Any:
        done = save(self, save_directory, *args, **options)
        given = inspect.signature(save).bind(self, save_directory, *args, **options).arguments
        if given.get("is_main_process", True):
            for name in given.get("selected_adapters") or list(self.peft_config):
                save_factors(self, name, Path(save_directory, "" if name == "default" else name))
        return done

    return save_pretrained


def _loading(load: Any) -> Any:
    """Load an adapter, and its factors from beside it."""

    @functools.wraps(load)
    def load_adapter(self: Any, model_id: Any, adapter_name: str, *args: Any, **options: Any) -> Any:
        with loading():
            done = load(self, model_id, adapter_name, *args, **options)
        hub = ("subfolder", "revision", "cache_dir", "token", "local_files_only", "repo_type")
        given = {name: options[name] for name in hub if options.get(name) is not None}
        load_factors(self, adapter_name, str(model_id), given)
        return done

    return load_adapter
