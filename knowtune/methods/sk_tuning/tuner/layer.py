"""Puts the text before every input of a backbone, by hooks on it: all heads, and generation, go through it."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import DynamicCache

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.adapter import SkAdapter, State, sample_of, shapes_of, widths_of
from knowtune.methods.sk_tuning.tuner.cache import count_text, holder_of
from knowtune.methods.sk_tuning.tuner.config import SkTuningConfig
from knowtune.methods.sk_tuning.tuner.inputs import Pass, put_prompt, read_pass, show_text, tokens_of
from knowtune.methods.sk_tuning.tuner.outputs import give_back
from knowtune.methods.sk_tuning.tuner.reading import (
    as_if_trained,
    context_of,
    fingerprint,
    first_position,
    read_states,
    require_whole_passes,
)
from knowtune.models.arguments import arguments_of


class SkTuningLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A child of the backbone that holds the adapters, and conditions the backbone on the active one."""

    adapter_layer_names = ("sk_text",)
    other_param_names = ("configs", "kept")

    def __init__(self, backbone: Any, classified: bool) -> None:
        """Take a backbone, and whether a classifier reads what it gives."""
        super().__init__()
        self.sk_text = nn.ModuleDict()
        self.configs: dict[str, SkTuningConfig] = {}
        self.kept: dict[str, tuple[Any, list[State]]] = {}  # by adapter: the fingerprint of what it was read with
        self.merged_adapters: list[str] = []
        self.reading = False
        self.running: Pass | None = None
        self.backbone = (backbone,)  # in a tuple, so that it is no child
        self.context, self.first, self.classified = context_of(backbone), first_position(backbone), classified
        self.hooks = (
            backbone.register_forward_pre_hook(self.before, with_kwargs=True),
            backbone.register_forward_hook(self.after),
        )

    @property
    def weight(self) -> torch.Tensor:
        """Deny one: PEFT looks for it in a layer inside, and here is none."""
        raise AttributeError("an SK_TUNING layer has no weight of its own")

    bias = weight

    def update_layer(self, adapter_name: str, config: SkTuningConfig, base: dict[str, Any]) -> None:
        """Make an adapter.

        Args:
            adapter_name: its name.
            config: its options; what tells this base from others is kept in it.
            base: what the backbone is called.

        Raises:
            UserError: text, options and model do not fit; the layer is as it was then.
        """
        words = self.words(config)
        self.configs[adapter_name] = config
        try:
            shapes = shapes_of(self.frozen(adapter_name) if config.variant == "prefix" else [])
            base = {**base, **widths_of(words, shapes)}
            config.require_base(base)
            adapter = SkAdapter(config, words, shapes)
        except UserError:
            self.configs.pop(adapter_name)
            self.kept.pop(adapter_name, None)
            raise
        if not any(parameter.is_meta for parameter in adapter.parameters()):
            adapter.to(words.device, words.dtype)  # PEFT then casts to float32, unless it is not to
        self.sk_text[adapter_name], config.base_shape = adapter, base
        if not words.is_meta:
            sample = sample_of(words)
            config.compare_words(sample)
            config.base_words = sample

    def words(self, config: SkTuningConfig) -> torch.Tensor:
        """Return the text's frozen embeddings  # (text, hidden)."""
        embed = self.backbone[0].get_input_embeddings()
        with torch.no_grad():
            words: torch.Tensor = embed(torch.tensor(config.token_ids, device=embed.weight.device))
        return words

    def active(self) -> str | None:
        """Return the name of the adapter that is on."""
        active = [] if self.disable_adapters else [name for name in self.active_adapters if name in self.sk_text]
        if len(active) > 1:
            raise UserError(f"SK-Tuning: {len(active)} adapters are active, {', '.join(active)}; activate one")
        return active[0] if active else None

    def prefix(self, name: str) -> list[State]:
        """Return the keys and values that an adapter puts before the input's."""
        config, adapter = self.configs[name], self.adapter(name)
        if config.form == "paper":
            return adapter.prefix(self.frozen(name))
        return adapter.prefix(self._read(inputs_embeds=adapter.soft_words(self.words(config))[None]))

    def prompt(self, name: str) -> torch.Tensor:
        """Return the embeddings that an adapter puts before the input's  # (text, hidden)."""
        return self.adapter(name).prompt(self.words(self.configs[name]))

    def adapter(self, name: str) -> SkAdapter:
        """Return what of an adapter is trained."""
        adapter: Any = self.sk_text[name]
        return adapter  # type: ignore[no-any-return]

    def frozen(self, name: str) -> list[State]:
        """Return the base's states of the text, read again only when the base is another."""
        key = fingerprint(self.backbone[0])
        if name not in self.kept or self.kept[name][0] != key:
            with as_if_trained():
                ids = torch.tensor([self.configs[name].token_ids], device=self.backbone[0].device)
                self.kept[name] = key, self._read(input_ids=ids)
        return self.kept[name][1]

    def _read(self, **text: torch.Tensor) -> list[State]:
        if "past_key_values" not in arguments_of(self.backbone[0]):
            kind = type(self.backbone[0]).__name__
            raise UserError(f"SK-Tuning: {kind} takes no keys and values; take variant: prompt")
        self.reading = True
        try:
            return read_states(self.backbone[0], **text)
        finally:
            self.reading = False

    def before(self, backbone: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Change what the backbone is given."""
        if self.reading:
            return None
        name, self.running = self.active(), None
        given = {**dict(zip(arguments_of(backbone), args, strict=False)), **options}
        if name is None:
            _require_none_held(given.get("past_key_values"))
            return None
        run = self.running = read_pass(backbone, given, name, self.configs[name], self.context)
        batch = len(tokens_of(given))
        show_text(backbone, given, run, self.first)
        if run.prompt:
            put_prompt(backbone, given, self.prompt(name))
        elif not run.begun:
            self._put_prefix(backbone, given, name, batch)
        count_text(given.get("past_key_values"))
        return (), given

    def _put_prefix(self, backbone: Any, given: dict[str, Any], name: str, batch: int) -> None:
        """Begin the cache with the prefix."""
        if backbone.training:
            require_whole_passes(backbone)
        if given.get("past_key_values") is None:
            given["past_key_values"] = DynamicCache(config=backbone.config)
        past = given["past_key_values"]
        for number, state in enumerate(self.prefix(name)):
            if state:
                past.update(*(part.expand(batch, -1, -1, -1) for part in state), number)

    def after(self, backbone: Any, args: tuple[Any, ...], output: Any) -> Any:
        """Give back what belongs to the input."""
        if self.reading or self.running is None:
            return None
        run, self.running = self.running, None
        config = self.configs[run.adapter]
        classified = self.classified or config.task_type == "SEQ_CLS"  # of a class that transformers does not have
        return give_back(backbone, output, run, config.pooling, classified)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse."""
        raise UserError("SK-Tuning changes no weight, so it cannot be merged; keep the adapter beside its base")

    def unmerge(self) -> None:
        """Do nothing: nothing is ever merged."""

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Let go of the backbone."""
        for hook in self.hooks:
            hook.remove()
        return nn.Identity()

    def _get_base_layer_device_and_dtype(self, base_layer: Any) -> tuple[torch.device, None]:
        return self.backbone[0].get_input_embeddings().weight.device, None


def _require_none_held(past: Any) -> None:
    """Refuse a cache that holds a text, where no adapter is on."""
    if (holder := holder_of(past)) is not None:
        raise UserError(
            f"SK-Tuning: the cache holds the text of the adapter {holder!r}, which is off; give an empty one, or the "
            "whole input"
        )
