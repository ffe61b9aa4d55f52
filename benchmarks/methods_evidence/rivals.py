"""Methods that the pipeline does not have as such: KaSA with a part left out, and PEFT's own KaSA and starts.

They are made of the pipeline's, so that all else is equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.methods.kasa.method import Kasa
from knowtune.methods.kasa.tuner.factors import factors
from knowtune.methods.kasa.tuner.files import kasa_layers
from knowtune.methods.kasa.tuner.install import as_in_peft
from knowtune.methods.peft import Peft
from knowtune.methods.peft_adapters import attach_adapter, task_type
from knowtune.models.checkpoint_files import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PeftKasa(Kasa):
    """PEFT's own KaSA, which truncates the base's weights for good; its loss is added as its documents say."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT alone."""
        with as_in_peft():
            return attach_adapter(model, self._config(model))

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        """Return PEFT's sum over layers."""
        return model.base_model._get_kasa_loss()  # type: ignore[no-any-return, union-attr, operator]


class Untruncated(Kasa):
    """KaSA on the whole base: no singular value is dropped."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach, and drop nothing."""
        attached = super().attach(model)
        for _, layer in kasa_layers(attached, "default"):
            for factor in factors(layer, "default"):
                factor.data.zero_()
        return attached


class Unscaled(Kasa):
    """KaSA without singular values of its own: they are one, and stay it."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach, and fix ds at one."""
        attached = super().attach(model)
        for _, layer in kasa_layers(attached, "default"):
            layer.lora_diag["default"].requires_grad_(False).fill_(1.0)
        return attached


class TextPrompt(Peft):
    """PEFT's prompt tuning whose virtual tokens start at the embeddings of a text's."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach; the text becomes tokens by the tokenizer in the model's folder."""
        from peft import PromptTuningConfig, PromptTuningInit

        options: dict[str, Any] = dict(self.model_extra or {})
        config = PromptTuningConfig(
            task_type=task_type(model), num_virtual_tokens=options["num_virtual_tokens"],
            prompt_tuning_init=PromptTuningInit.TEXT, prompt_tuning_init_text=options["text"],
            tokenizer_name_or_path=str(model.name_or_path),
        )  # fmt: skip
        return attach_adapter(model, config)


class TextPrefix(Peft):
    """PEFT's prefix tuning whose keys and values start at what the base makes of a text."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach; the text becomes tokens by the tokenizer in the model's folder."""
        from peft import PrefixTuningConfig, initialize_kv_prefix_from_text

        options: dict[str, Any] = dict(self.model_extra or {})
        config = PrefixTuningConfig(task_type=task_type(model), num_virtual_tokens=options["num_virtual_tokens"])
        attached = attach_adapter(model, config)
        tokenizer = load_tokenizer(Path(str(model.name_or_path)))
        initialize_kv_prefix_from_text(attached, tokenizer, text=options["text"], use_chat_template=False)
        return attached
