"""Every method that PEFT can train from a config alone, by its name in PEFT and with PEFT's own options.

What needs more than a config (data before training, other adapters, another forward signature), or does not compute
what a causal language model must, is refused by name with the reason. All of this was measured with PEFT 0.21;
`tests/unit/methods/test_peft.py` trains, saves, loads and merges every other type.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from knowtune.common.errors import Problem, UserError, nearest
from knowtune.methods import peft_adalora
from knowtune.methods.base import Method
from knowtune.methods.kasa.limits import option_problems as kasa_problems
from knowtune.methods.peft_changes import CHANGES, STARTS_ELSEWHERE
from knowtune.methods.tuners import TUNERS
from knowtune.registry import Context

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFUSED = {
    **{name.lower(): f"it is a tuner of knowtune's own: take `method: {name.lower()}`" for name in TUNERS},
    "cpt": "its forward pass rewrites its own weights, so that what is saved is not what was measured",
    "adamss": "it needs scikit-learn at attach",
    "lily": "its router averages over the whole batch, later tokens included, so its loss leaks the future",
    "multitask_prompt_tuning": "every forward pass needs task_ids",
    "poly": "every forward pass needs task_ids",
    "xlora": "it needs trained LoRA adapters to mix, and PEFT saves it empty",
}
REFUSED_OPTIONS: dict[str, dict[str, str]] = {  # option -> reason; for `init_lora_weights` by value below
    "adalora": peft_adalora.REFUSED_OPTIONS,
    "lora": {
        "alora_invocation_tokens": "the prompts must contain its tokens, and it cannot be merged",
        "arrow_config": "it needs trained LoRA adapters",
        "layer_replication": "it makes another, deeper model, and its merge is wrong",
        "megatron_config": "it needs Megatron",
        "use_qalora": "it needs a GPTQ base",
        "loftq_config": "it needs bitsandbytes and CUDA at attach",
    },
    "shira": {"mask_type": "only random masks come from a config"},
    "prompt_tuning": {"tokenizer_name_or_path": "give no text initialisation: it needs a tokenizer's path"},
    "shadow": {"shadow_model": "it needs another model"},
}
REFUSED_STARTS = {
    "eva": "it needs data before training",
    "lora_ga": "it needs data before training",
    "corda": "it needs data before training",
    "loftq": "it needs bitsandbytes and CUDA at attach",
}
REQUIRED = {  # options without which PEFT attaches nothing useful, or stops in the middle
    "adaption_prompt": ("adapter_len", "adapter_layers"),
    "cartridge": ("num_virtual_tokens",),
    "p_tuning": ("num_virtual_tokens",),
    "prefix_tuning": ("num_virtual_tokens",),
    "prompt_tuning": ("num_virtual_tokens",),
    "trainable_tokens": ("token_indices",),
}
# Methods whose change is no change of weights: merged, they stay a composed artefact.
COMPOSED = {"adaption_prompt", "beft", "cartridge", "p_tuning", "prefix_tuning", "prompt_tuning", "shadow"}
# Methods whose saved form has lost what further training needs: a killed run starts this seed again.
NOT_RESUMABLE = {"adalora", "cartridge", "p_tuning", "prefix_tuning", "prompt_tuning", "vblora"}


class Peft(Method):
    """A PEFT type by name; all other options are that type's own, as PEFT documents them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    type: str = Field(description="PEFT's name of the method in lower case, e.g. vera, ia3, oft")

    @property
    def _allocates(self) -> bool:
        return self.type == "adalora"

    @property
    def folds(self) -> bool:
        """Prompts and other additions to the computation do not fold."""
        return self.type not in COMPOSED

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint holds all that further training needs."""
        return self.type not in NOT_RESUMABLE

    @property
    def computes_change(self) -> bool:
        """Whether the type does, and no option makes it change more than that, or begin elsewhere than at the base."""
        options = self.model_extra or {}
        start = str(options.get("init_lora_weights", "")).lower()
        more = options.get("use_dora") or options.get("lora_bias") or start.startswith(STARTS_ELSEWHERE)
        return self.type in CHANGES and not more

    def num_virtual_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Give the number that the options say."""
        return int((self.model_extra or {}).get("num_virtual_tokens") or 0)

    def demands(self, context: Context) -> list[Problem]:
        """Check the type and its options too, where there is time for importing PEFT."""
        problems, options = super().demands(context), self.model_extra or {}
        if options.get("kasa_config") is not None:
            problems += kasa_problems(context, options)
        return problems + (self.problems(context.where) if context.deep else [])

    def problems(self, where: str) -> list[Problem]:
        """Check the type and its options against PEFT itself.

        Args:
            where: the run's key in params.yaml.
        """
        from peft import PeftType

        from knowtune.methods.peft_options import option_problems

        known = sorted(str(member.value).lower() for member in PeftType)
        allowed = ", ".join(name for name in known if name not in REFUSED)
        if self.type in REFUSED:
            return [Problem(f"{where}.type", f"{self.type!r}: {REFUSED[self.type]}", allowed)]
        if self.type not in known:
            return [Problem(f"{where}.type", repr(self.type), allowed, nearest(self.type, known))]
        options = dict(self.model_extra or {})
        reasons = {name: why for name, why in REFUSED_OPTIONS.get(self.type, {}).items() if name in options}
        start = str(options.get("init_lora_weights"))
        why = "its reload depends on a global seed" if start.startswith("pissa_niter") else REFUSED_STARTS.get(start)
        if self.type == "lora" and why:
            reasons["init_lora_weights"] = why
        problems = [
            Problem(
                f"{where}.options.{name}", f"{options.pop(name)!r}: {why}", "what a config alone can do; leave it out"
            )
            for name, why in reasons.items()
        ]
        problems += [
            Problem(f"{where}.options.{name}", "nothing", f"a value; PEFT's {self.type} needs it")
            for name in REQUIRED.get(self.type, ())
            if name not in options
        ]
        if self._allocates:
            problems += peft_adalora.problems(options, f"{where}.options")
            options |= peft_adalora.STEPS
        return problems + option_problems(self.type, options, f"{where}.options")

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT."""
        from knowtune.common.errors import raise_gathered
        from knowtune.methods.peft_adapters import attach_adapter, task_type
        from knowtune.methods.peft_options import config_class

        raise_gathered("method peft", self.problems("run"))
        options: dict[str, Any] = {**(self.model_extra or {}), "task_type": task_type(model)}
        if self._allocates:
            options |= peft_adalora.STEPS
        return attach_adapter(model, config_class(self.type)(**options))

    def begin(self, model: torch.nn.Module, num_steps: int) -> None:
        """Set AdaLoRA's schedule."""
        if self._allocates:
            peft_adalora.begin(model, self.model_extra or {}, num_steps)

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Take AdaLoRA's ranks away."""
        if self._allocates:
            peft_adalora.allocate(model, step)

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return AdaLoRA's, which holds its singular vectors orthogonal."""
        return peft_adalora.penalty(model, self.model_extra or {}) if self._allocates else None

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save in PEFT's layout."""
        from knowtune.methods.peft_adapters import save_adapter

        save_adapter(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Load by PEFT."""
        from knowtune.methods.peft_adapters import load_adapter

        return load_adapter(model, folder)

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Merge by PEFT."""
        from knowtune.methods.peft_adapters import fold_adapter

        if not self.folds:
            raise UserError(f"PEFT's {self.type} cannot be folded into plain weights; it stays a composed artefact")
        return fold_adapter(model)
