"""FISH Mask: train only the entries that a selection chose (Sung, Nair, Raffel, arXiv 2111.09839), by our PEFT tuner.

    theta_j' = theta_j + v_j  for j in the mask,   theta_j' = theta_j  elsewhere, bit for bit

The mask comes from the run's selection: by Fisher information (`fish`, `ird`), by magnitude or at random. The head of a
classifier is trained whole, as in the authors' code. Weight decay pulls v to zero, that is theta' to the base, where
the authors' would pull masked weights to zero (their default is none).

FISH-Tuning (arXiv 2504.04050): a selection over an adapter's parameters hands that adapter on, warmed up; the chosen
entries of it are trained, and what is saved is a plain adapter of that kind, which PEFT loads without knowtune.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.methods.base import MaskedMethod

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Fish(MaskedMethod):
    """Train the entries of the selection's mask, of the base or of the selection's adapter."""

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Refuse: without a mask there is nothing to train."""
        raise UserError("fish: no mask; name a selection with a budget (strategy fish, ird, magnitude or random)")

    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Attach the tuner to a base, or restrict the adapter that lies in `start`."""
        from knowtune.methods.peft_adapters import attach_adapter, load_adapter, task_type

        if start is None:
            from knowtune.methods.fish.tuner import FishConfig

            return attach_adapter(model, FishConfig(mask=dict(mask), task_type=task_type(model)))
        from knowtune.methods.fish.restrict_adapter import restrict
        from knowtune.models.heads import head_parameters

        attached = load_adapter(model, start, trainable=True)
        restrict(attached, mask, keep=head_parameters(attached))
        return attached

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save in PEFT's layout: as FISH with values and indices, or as the adapter's own type."""
        from knowtune.methods.fish.restrict_adapter import materialise
        from knowtune.methods.peft_adapters import save_adapter

        materialise(model)
        save_adapter(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Load by PEFT."""
        from knowtune.methods.peft_adapters import load_adapter

        return load_adapter(model, folder)

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Write the values into the weights; those of a tied one are of all its uses."""
        from knowtune.methods.peft_adapters import fold_adapter

        plan: Any = model
        return fold_adapter(model, keep_ties=plan.peft_config["default"].peft_type == "FISH")
