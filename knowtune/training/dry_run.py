"""Try a method on a base before it trains, so that what cannot work fails at once (docs/decisions/0022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from knowtune.common.errors import UserError
from knowtune.models.checkpoint_files import first_line
from knowtune.models.forward import logits_of

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.methods.base import Method
    from knowtune.training.dataset import Rows

NOISE = 0.01  # standard deviation of what is added to the parameters, as if they were trained


@torch.inference_mode()
def dry_run(method: Method, base: Base, rows: Rows, label: str) -> None:
    """Attach a method, add noise to its parameters, compute the shortest row, fold, and compute it again.

    Numbers are compared in float32 alone, in which folding is done; 4-bit weights are not folded. Draws random numbers:
    seed after it.

    Raises:
        UserError: the method cannot be computed on this model, does not fold, or folds to another model.
    """
    with torch.inference_mode(False):
        model = method.attach(base.model()).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += NOISE * torch.randn_like(parameter)
    remedy = "change other layers of it (target_modules), or take another method"
    attached = first_logits(model, base, rows, f"{label}: the base cannot be computed with this method", remedy)
    if not method.folds or base.compute.quantize != "none":
        return
    with torch.inference_mode(False):
        folded = method.fold(model)
    merged = first_logits(folded, base, rows, f"{label}: merged, this method cannot be computed on this base", remedy)
    difference = float((merged - attached).abs().max())
    folded.to("meta")  # type: ignore[arg-type]  # gives its memory back at once; PEFT's models hold on to themselves
    if base.compute.resolved_dtype() is torch.float32 and difference > max(0.01, 1e-3 * float(attached.abs().max())):
        raise UserError(
            f"{label}: merged, this method would compute something else on this base than trained, by {difference:.2g} "
            "in a logit, even before training; use other options or another method"
        )


def first_logits(model: torch.nn.Module, base: Base, rows: Rows, what: str, remedy: str) -> torch.Tensor:
    """Compute the shortest row.

    Raises:
        UserError: it cannot be; with what it is that cannot, why, and a remedy.
    """
    try:
        return logits_of(model, base.task.inputs([min(rows.rows, key=lambda row: len(row.input_ids))]))
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, NotImplementedError) as error:
        raise UserError(f"{what}: {first_line(error)}; {remedy}") from error
