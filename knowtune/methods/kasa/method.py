"""KaSA: Knowledge-aware Singular-value Adaptation (Wang, Jiang, Park, Kim, Tang, arXiv 2412.06071, ICLR 2025).

    W' = W_world + (alpha / r) B diag(ds) A      L = L_task + beta L2 + gamma L3

W_world   (out, in), the base's weight without its r smallest singular values, frozen
A         (r, in), random at the start;  B: (out, r), zero;  ds: (r,), random, the knowledge-aware singular values
L2, L3    penalties on ds, and on A and B: `knowtune.methods.kasa.penalties`

PEFT has it as `LoraConfig(kasa_config=...)`, and what is saved is PEFT's, byte for byte of the same format. Ours takes
the place of PEFT's variant (`knowtune.methods.kasa.tuner`): the base stays, only the r smallest singular triplets are
computed, and lie beside the adapter, so that loading it decomposes nothing.

What is whose. Paper, by PEFT's documents and summaries of it: the truncation, the change and the penalties. The
authors' code: the start, alpha / r, the mean over layers, the other form of L3; it drops too few components where
out < in, for it keeps in - r, so here min(out, in) - r stay, as in PEFT. Ours: that the base is never written, which
components go when several adapters are active, the decomposition, and the penalties within the training's loss.

On a selection that masks the base's parameters each module gets a rank by its share of the mask, as with LoRA
(`knowtune.methods.lora_ranks`), and drops as many components: ours, and a rank is at most min(out, in) - 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from knowtune.common.errors import Problem, UserError
from knowtune.methods.kasa.limits import rank_problems
from knowtune.methods.lora import Lora
from knowtune.registry import Context

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel


class Kasa(Lora):
    """Train a low-rank change with singular values of its own, on a base without its smallest ones."""

    rank: int = Field(ge=1, le=4096, description="rank r of the change, and number of singular values that are dropped")
    beta: float = Field(default=1e-4, ge=0, le=1e6, description="weight of the penalty on the singular values ds")
    gamma: float = Field(default=1e-3, ge=0, le=1e6, description="weight of the penalty on A and B, not orthonormal")
    reduction: Literal["mean", "sum"] = Field(
        default="mean", description="penalties of all layers: their mean as the authors have it, or sum as in PEFT"
    )
    form: Literal["paper", "released"] = Field(
        default="paper", description="penalty on A and B as in the paper, or as in the authors' code"
    )

    def demands(self, context: Context) -> list[Problem]:
        """Refuse a quantised base, whose packed weights cannot be decomposed, and a rank that leaves nothing of one."""
        problems = super().demands(context)
        if context.quantized:
            got = "'kasa' on a quantised base, whose packed weights have no singular values to drop"
            problems.append(Problem(f"{context.where}.method", got, "lora, or quantize: none"))
        return problems + rank_problems(context, self.rank, self.target_modules, "rank")

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT, and find what each weight drops.

        Raises:
            UserError: a rank leaves nothing of a weight, or a module has none that can be decomposed.
        """
        return _attached(model, self._config(model))

    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Attach with ranks by the mask.

        Raises:
            UserError: the mask is of an adapter, or has no entry of a module that KaSA could change.
        """
        from knowtune.methods.lora_ranks import patterns_of, ranks_by_mask, targets_of

        if start is not None:
            raise UserError("kasa: the mask is of an adapter that the selection hands on; use method fish")
        targets = targets_of(model, super()._config(model))  # nothing need be decomposed for that
        ranks = ranks_by_mask(model, targets, mask, self.rank)
        largest = {path: min(model.get_parameter(f"{path}.weight").shape) - 1 for path in ranks}
        ranks = {path: min(rank, largest[path]) for path, rank in ranks.items()}
        options = patterns_of(ranks, self.rank, self.alpha)
        return _attached(model, self._config(model, target_modules=list(ranks), **options))

    def _config(self, model: PreTrainedModel, **options: Any) -> LoraConfig:
        """Write the options as PEFT has them; the form and the reduction of the penalties are ours alone."""
        from peft import KasaConfig

        return super()._config(model, kasa_config=KasaConfig(beta=self.beta, gamma=self.gamma), **options)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save in PEFT's layout; beside it what each weight drops, and a picture of what is learned."""
        from knowtune.methods.kasa.picture import PICTURE, draw_singular_values, singular_values

        super().save(model, folder)
        (folder / PICTURE).write_text(draw_singular_values(singular_values(model)), encoding="utf-8")

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return beta L2 + gamma L3."""
        from knowtune.methods.kasa.penalties import penalty

        return penalty(model, self.beta, self.gamma, self.reduction, self.form)


def _attached(model: PreTrainedModel, config: LoraConfig) -> torch.nn.Module:
    """Attach by PEFT, to linear layers alone."""
    import torch
    from peft.tuners.tuners_utils import check_target_module_exists
    from transformers.pytorch_utils import Conv1D

    from knowtune.methods.kasa.tuner.files import ONLY_HERE, kasa_layers
    from knowtune.methods.kasa.tuner.install import install
    from knowtune.methods.peft_adapters import attach_adapter

    install()  # done by now; but so a run's code is seen to depend on it
    for path, module in model.named_modules() if config.target_modules != "all-linear" else ():
        if check_target_module_exists(config, path) and not isinstance(module, torch.nn.Linear | Conv1D):
            got = f"{path}, a layer of type {type(module).__name__}"
            raise UserError(f"kasa: target_modules names {got}; allowed: linear layers, whose weights it decomposes")
    attached = attach_adapter(model, config)
    if any(layer.fan_in_fan_out for _, layer in kasa_layers(attached, "default")):
        print(f"kasa: {ONLY_HERE}", file=sys.stderr)
    return attached
