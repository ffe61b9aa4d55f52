"""Attaches IMSM adapters to a model, by PEFT's rules: the inner adapter by its own tuner, and the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from knowtune.common.errors import UserError
from knowtune.methods.imsm.options import REWRITES
from knowtune.methods.imsm.tuner.backbone import (
    NAME,
    backbone_of,
    head_width,
    probe,
    require_frozen_head,
    require_same,
)
from knowtune.methods.imsm.tuner.config import ImsmConfig
from knowtune.methods.imsm.tuner.inner import GATE, require_gate, tuner_of
from knowtune.methods.imsm.tuner.layer import NOT_MERGED, ImsmLayer
from knowtune.methods.imsm.tuner.passes import PromptSource
from knowtune.text.prompt_tokens import prompt_tokens


class ImsmModel(BaseTuner):  # type: ignore[misc]
    """A base, an inner adapter, and the gate that weaves what both say. One adapter is active at a time."""

    prefix = "imsm_"
    tuner_layer_cls = BaseTunerLayer
    takes_prompt_mask = True

    def inject_adapter(self, model: Any, adapter_name: str, *args: Any, **options: Any) -> None:
        """Attach the inner adapter, unless it is attached, and a gate.

        Raises:
            UserError: model, inner adapter and gate do not fit.
        """
        config: Any = self.peft_config[adapter_name]
        backbone, width = backbone_of(model), head_width(model)
        if config.hidden_size not in (None, width):
            raise UserError(
                f"IMSM: the gate is of states of width {config.hidden_size}, and this model's head reads {width}; it "
                "was made on another base"
            )
        config.hidden_size = width
        options.pop("state_dict", None)
        adopted = self._attach_inner(model, adapter_name, config, options)
        require_frozen_head(model)
        layer = getattr(backbone, NAME, None)
        if layer is None:
            layer = ImsmLayer(backbone)
            backbone.add_module(NAME, layer)
        layer.update_layer(adapter_name, config, width, model.get_output_embeddings().weight.device)
        self.targeted_module_names = self.inner.targeted_module_names
        if adopted:  # what it trains, and what not, is settled
            layer.set_adapter(self.active_adapters)
        else:
            self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _attach_inner(self, model: nn.Module, name: str, config: ImsmConfig, options: dict[str, Any]) -> bool:
        """Let the inner adapter's own tuner attach it, or take over one that is attached; return whether one was."""
        inner = config.adapter
        inner.inference_mode, inner.task_type = config.inference_mode, inner.task_type or config.task_type
        if (tuner := vars(config).pop("tuner", None)) is not None:
            self.inner_tuner = (tuner,)
            return True
        kind = tuner_of(inner)
        before = probe(model)
        if "inner_tuner" not in vars(self):
            self.inner_tuner = (kind(model, {name: inner}, name),)  # in a tuple, so that it is no child
        elif type(self.inner) is not kind:
            raise UserError(f"IMSM: the inner adapters of a model are of one type; got {inner.peft_type} too")
        else:
            self.inner.peft_config[name] = inner
            self.inner.inject_adapter(model, name, **options)
        require_same(model, before, REWRITES)
        return False

    @property
    def inner(self) -> Any:
        """The inner adapter's tuner."""
        return self.inner_tuner[0]

    @property
    def layer(self) -> ImsmLayer:
        """What holds the gates."""
        return getattr(backbone_of(self.model), NAME)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        """Look for what is missing in the inner tuner, then in the model: AdaLoRA has calls and a schedule."""
        inner: Any = vars(self).get("inner_tuner")
        ours = inner is None or name in ("model", *vars(self))
        if not ours and (name in vars(inner[0]) or hasattr(type(inner[0]), name)):
            return getattr(inner[0], name)
        return super().__getattr__(name)

    def forward(self, *args: Any, prompt_mask: torch.Tensor | None = None, **options: Any) -> Any:
        """Compute as the model does, with the memories interwoven.

        Args:
            args: of the model.
            prompt_mask: true at tokens of a prompt  # (batch, seq). Without it: where `labels` are -100; without
                labels all tokens of an empty cache, none after it.
            options: of the model.
        """
        labels, mask = options.get("labels"), options.get("attention_mask")
        if prompt_mask is None and labels is not None:
            prompt_mask = prompt_tokens(labels, mask if mask is not None and mask.shape == labels.shape else None)
        with self._prompt(PromptSource(prompt_mask)):
            return self.inner(*args, **options)

    def generate(self, *args: Any, prompt_mask: torch.Tensor | None = None, **options: Any) -> Any:
        """Generate as the model does; the whole input is the prompt, or what of it the mask says.

        Raises:
            UserError: the mask is not of the input's shape.
        """
        given = args[0] if args else options.get("inputs", options.get("input_ids", options.get("inputs_embeds")))
        end = 1 if given is None else int(given.shape[1])
        if prompt_mask is not None and prompt_mask.shape[1] != end:
            raise UserError(f"IMSM: the prompt mask is of {prompt_mask.shape[1]} tokens, and the input of {end}")
        with self._prompt(PromptSource(prompt_mask, end)):
            return self.model.generate(*args, **options)

    @contextmanager
    def _prompt(self, source: PromptSource) -> Iterator[None]:
        layer = self.layer
        before, layer.source = layer.source, source
        try:
            yield
        finally:
            layer.source = before

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Activate an adapter.

        Raises:
            UserError: there are several.
        """
        if isinstance(adapter_name, list) and len(adapter_name) > 1:
            raise UserError(f"IMSM: one adapter is active at a time; got {', '.join(adapter_name)}")
        self.inner.set_adapter(adapter_name, inference_mode=inference_mode)
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter, its inner one too."""
        self.inner.peft_config.pop(adapter_name, None)
        super().delete_adapter(adapter_name)
        self.inner.active_adapter = self.active_adapter

    def _create_and_replace(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError("the inner adapter's tuner does")

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        self.inner._cast_adapter_dtype(adapter_name, autocast_adapter_dtype=autocast_adapter_dtype)

    def _check_merge_allowed(self) -> None:
        raise UserError(NOT_MERGED)

    def merge_adapter(self, *args: Any, **options: Any) -> None:
        """Refuse."""
        raise UserError(NOT_MERGED)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **options: Any) -> Any:
        if merge:
            raise UserError(NOT_MERGED)
        backbone = backbone_of(self.model)
        for hook in backbone._modules.pop(NAME).hooks:
            hook.remove()
        return self.inner._unload_and_optionally_merge(False, *args, **options)

    @classmethod
    def _get_adapter_state_dict(
        cls, model: Any, config: Any, adapter_name: str, state_dict: dict[str, Any], unwanted_adapter_names: list[str]
    ) -> dict[str, Any]:
        """Take the inner adapter's tensors, named as its own tuner saves them, and the gate's."""
        inner = tuner_of(config.adapter)
        given = (model, config.adapter, adapter_name, state_dict, unwanted_adapter_names)
        tensors = {key: value for key, value in inner._get_adapter_state_dict(*given).items() if GATE not in key}
        named = {inner._remove_adapter_name_from_key(key, adapter_name): value for key, value in tensors.items()}
        return named | {key: value for key, value in state_dict.items() if f"{GATE}{adapter_name}." in key}

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        if GATE in key:
            return key.replace(f"{GATE}{adapter_name}.", GATE, 1)
        return super()._remove_adapter_name_from_key(key, adapter_name)  # type: ignore[no-any-return]

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: Any, config: Any, adapter_name: str, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        gates = {key: value for key, value in state_dict.items() if GATE in key}
        rest = {key: value for key, value in state_dict.items() if GATE not in key}
        require_gate(config, gates)
        inner = tuner_of(config.adapter)
        loaded: dict[str, Any] = inner._remap_adapter_state_dict_for_load(
            model=model, config=config.adapter, adapter_name=adapter_name, state_dict=rest
        )
        return loaded | {key.replace(GATE, f"{GATE}{adapter_name}.", 1): value for key, value in gates.items()}
