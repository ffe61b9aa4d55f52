"""LoRA: Low-Rank Adaptation (Hu et al., arXiv 2106.09685), by PEFT.

W' = W + (alpha / r) B A      A: (r, in), random; B: (out, r), zero at the start
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from knowtune.methods.base import Method

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Lora(Method):
    """Train a low-rank change of the linear layers. More of PEFT's variants: `method: peft, type: lora`."""

    rank: int = Field(ge=1, le=4096, description="rank r of the change")
    alpha: float = Field(gt=1e-6, le=1e6, description="the change is scaled by alpha / r")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str | list[str] = Field(default="all-linear", description="module names, or all-linear")

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT."""
        from peft import LoraConfig

        from knowtune.methods.peft_adapters import attach_adapter, task_type

        config = LoraConfig(
            task_type=task_type(model),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
        )
        return attach_adapter(model, config)

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
