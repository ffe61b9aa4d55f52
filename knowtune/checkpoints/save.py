"""Save checkpoints in transformers' layout: finite, and on disk what they were in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.checkpoints.base import Base, load_model
from knowtune.common.errors import UserError
from knowtune.models.load import require_matching

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def write_checkpoint(model: Any, base: Base, folder: Path) -> PreTrainedModel:
    """Write a checkpoint, see `save_checkpoint`, and read it back.

    Returns:
        The model as it is on disk.

    Raises:
        UserError: weights are not finite, or those that are read are not those that were written.
    """
    save_checkpoint(model, base, folder)
    read = load_model(folder, replace(base.compute, quantize="none"), base.task, trained=True)
    require_written(model, read.state_dict(), folder)
    return read


def save_checkpoint(model: Any, base: Base, folder: Path) -> None:
    """Write a checkpoint in the base's dtype with its tokenizer; the model is then in that dtype too.

    Raises:
        UserError: weights are not finite.
    """
    model.to(dtype=base.compute.resolved_dtype())
    require_finite(model, folder)
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)


def require_written(model: torch.nn.Module, after: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Refuse a checkpoint that is not bit for bit the model in memory.

    Args:
        model: in memory.
        after: what was read, by the names in memory.
        folder: where it lies.

    Raises:
        UserError: names the first weights that differ.
    """
    before = model.state_dict()
    require_matching(folder, before.keys() - after.keys(), after.keys() - before.keys())
    changed = sorted(name for name, t in before.items() if not torch.equal(t.float().cpu(), after[name].float().cpu()))
    if changed:
        raise UserError(
            f"{folder}: {len(changed)} weights are not on disk what they are in memory, e.g. {', '.join(changed[:3])}; "
            f"transformers does not save {type(model).__name__} as it is, so it cannot be merged"
        )


def require_finite(model: torch.nn.Module, where: Path | str) -> None:
    """Refuse weights that are not finite: they compute nothing.

    Raises:
        UserError: names the first of them.
    """
    bad = [name for name, parameter in model.named_parameters() if not bool(parameter.isfinite().all())]
    if bad:
        raise UserError(
            f"{where}: {len(bad)} weights are not finite, e.g. {', '.join(bad[:3])}; lower the learning rate, or use a "
            "dtype of more range (compute.dtype)"
        )
