"""Attaches SK_TUNING adapters to a model, by PEFT's rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.layer import SkTuningLayer
from knowtune.methods.sk_tuning.tuner.outputs import classifies
from knowtune.methods.sk_tuning.tuner.reading import (
    NAME,
    backbone_of,
    find_tokens,
    kind_and_place,
    require_whole_passes,
)


class SkTuningModel(BaseTuner):  # type: ignore[misc]
    """A model that reads a text before every input. One adapter is active at a time."""

    prefix = "sk_text"
    tuner_layer_cls = SkTuningLayer

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **options: Any) -> None:
        """Read the text, and put the adapter into the backbone.

        Raises:
            UserError: text and model do not fit, or the adapter is of another base; nothing is attached then.
        """
        config: Any = self.peft_config[adapter_name]
        backbone = backbone_of(model)
        config.require_base(kind_and_place(backbone, model))
        config.token_ids = find_tokens(config, model, backbone)
        if config.variant == "prefix":
            require_whole_passes(backbone)
        first = not hasattr(backbone, NAME)
        if first:
            backbone.add_module(NAME, nn.Identity())  # which PEFT then replaces
        options.pop("state_dict", None)
        try:
            super().inject_adapter(model, adapter_name, *args, **options)
        except Exception:
            if first:
                self._detach(backbone)
            raise

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        return peft_config

    def _check_tied_modules(self, model: nn.Module, peft_config: Any) -> None:
        """No weight is changed, tied or not."""

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> bool:
        return key.rpartition(".")[2] == NAME

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module,
        current_key: str, parameter_name: str | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(target, SkTuningLayer):
            target = SkTuningLayer(parent, classifies(self.model))
            setattr(parent, target_name, target)
        target.update_layer(adapter_name, peft_config, kind_and_place(parent, self.model))
        target.sk_text[adapter_name].requires_grad_(adapter_name in self.active_adapters)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Activate an adapter.

        Raises:
            UserError: there are several.
        """
        if isinstance(adapter_name, list) and len(adapter_name) > 1:
            raise UserError(f"SK-Tuning: one adapter is active at a time; got {', '.join(adapter_name)}")
        super().set_adapter(adapter_name, inference_mode=inference_mode)

    def forget_states(self) -> None:
        """Read the text again at the next input: for who writes the base's weights through `.data`, unseen."""
        for part in self.modules():
            if isinstance(part, SkTuningLayer):
                part.kept.clear()

    @contextmanager
    def _enable_peft_forward_hooks(self, *_args: Any, **options: Any) -> Iterator[None]:
        """Refuse an adapter of its own for each row, which PEFT's forward and generate take as `adapter_names`."""
        if options.get("adapter_names") is not None:
            raise UserError(
                "SK-Tuning: adapter_names gives each row an adapter of its own, and one adapter reads all rows here; "
                "leave adapter_names out, and give each adapter's rows apart, after set_adapter"
            )
        yield

    def _check_merge_allowed(self) -> None:
        raise UserError("SK-Tuning changes no weight, so it cannot be merged; keep the adapter beside its base")

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def _unload_and_optionally_merge(self, *args: Any, **options: Any) -> Any:
        plain: Any = super()._unload_and_optionally_merge(*args, **options)
        self._detach(backbone_of(plain))
        return plain

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return key.replace(f".{cls.prefix}.{adapter_name}.", f".{cls.prefix}.", 1)

    @staticmethod
    def _detach(backbone: Any) -> None:
        layer = backbone._modules.pop(NAME)
        if isinstance(layer, SkTuningLayer):
            layer.unload_and_optionally_merge_module(False, False, None)
