"""Add a gate to a model that an inner method of the family has been attached to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from peft import PeftModelForCausalLM

from knowtune.common.errors import UserError
from knowtune.methods.imsm.options import REWRITES
from knowtune.methods.imsm.tuner.backbone import backbone_of, probe, require_same
from knowtune.methods.imsm.tuner.config import ImsmConfig
from knowtune.methods.peft_adapters import without_card


def weave(model: Any, attach: Callable[[Any], torch.nn.Module], **gate: Any) -> torch.nn.Module:
    """Attach an inner method by its own way, and the gate; what the inner method trains stays just that.

    Args:
        model: a pristine base.
        attach: of the inner method.
        gate: options of `ImsmConfig`.

    Raises:
        UserError: the base is no causal language model, or the inner method rewrites it or is no tuner of PEFT.
    """
    backbone_of(model)
    before = probe(model)
    attached: Any = attach(model)
    if not hasattr(attached, "peft_config"):
        raise UserError(f"imsm: its inner method gives a {type(attached).__name__}; allowed: an adapter of PEFT")
    require_same(attached, before, REWRITES)
    config = ImsmConfig(inner=attached.peft_config["default"], task_type="CAUSAL_LM", **gate)
    config.tuner = attached.base_model  # type: ignore[attr-defined]  # taken over as it is, once
    base = attached.get_base_model()
    del base.peft_config
    return without_card(PeftModelForCausalLM(base, config))  # type: ignore[no-any-return]


def without_head(model: Any, mask: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int]:
    """Leave out of a mask what is of the output head alone; return the rest, and how many entries are left out."""
    head = {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    tied = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in head - tied}
    return (
        {name: indices for name, indices in mask.items() if name not in names},
        sum(len(indices) for name, indices in mask.items() if name in names),
    )
