"""LoRA: Low-Rank Adaptation (Hu et al., arXiv 2106.09685), by PEFT.

W' = W + (alpha / r) B A      A: (r, in), random; B: (out, r), zero at the start

On a selection that masks the base's parameters, each module gets a rank by its share of the mask, and some none:
`knowtune.methods.lora_ranks`. What is saved is plain LoRA all the same, with PEFT's rank_pattern.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from knowtune.common.errors import UserError
from knowtune.methods.base import MaskedMethod

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel


class Lora(MaskedMethod):
    """Train a low-rank change of the linear layers. More of PEFT's variants: `method: peft, type: lora`."""

    needs_mask: ClassVar[bool] = False
    is_adapter: ClassVar[bool] = True

    rank: int = Field(ge=1, le=4096, description="rank r of the change")
    alpha: float = Field(gt=1e-6, le=1e6, description="the change is scaled by alpha / r")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str | list[str] = Field(default="all-linear", description="module names, or all-linear")

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT."""
        from knowtune.methods.peft_adapters import attach_adapter

        return attach_adapter(model, self._config(model))

    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Attach by PEFT with ranks by the mask.

        Raises:
            UserError: the mask is of an adapter, or has no entry of a module that LoRA could change.
        """
        from knowtune.methods.lora_ranks import patterns_of, ranks_by_mask, targets_of
        from knowtune.methods.peft_adapters import attach_adapter

        if start is not None:
            raise UserError("lora: the mask is of an adapter that the selection hands on; use method fish")
        ranks = ranks_by_mask(model, targets_of(model, self._config(model)), mask, self.rank)
        options = patterns_of(ranks, self.rank, self.alpha)
        return attach_adapter(model, self._config(model, target_modules=list(ranks), **options))

    def _config(self, model: PreTrainedModel, **options: Any) -> LoraConfig:
        """Write the options as PEFT has them."""
        from peft import LoraConfig

        from knowtune.methods.peft_adapters import task_type

        given = {"target_modules": self.target_modules, **options}
        config: LoraConfig = LoraConfig(
            task_type=task_type(model),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            **given,
        )
        return config

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save in PEFT's layout."""
        from knowtune.methods.peft_adapters import save_adapter

        save_adapter(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Load by PEFT."""
        from knowtune.methods.peft_adapters import load_adapter

        return load_adapter(model, folder)

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """W <- W + (alpha / r) B A."""
        from knowtune.methods.peft_adapters import fold_adapter

        return fold_adapter(model)
