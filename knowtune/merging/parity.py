"""Parity: how far a merged model's logits lie from the attached one's, and its bound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.common.files import read_card
from knowtune.models.forward import logits_of
from knowtune.models.prompt_mask import prompt_option
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.tasks.base import Task

PARITY = "parity.json"  # beside the merged seeds of a run


@torch.inference_mode()
def parity(
    attached: torch.nn.Module,
    merged: torch.nn.Module,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    batch_size: int,
) -> dict[str, float | int]:
    """Measure how far the merged model's logits lie from the attached one's on held-out rows.

    Returns:
        largest and mean absolute difference over all outputs of real tokens, and on how many rows.
    """
    encoded = task.encode(tokenizer, rows)
    largest, total, count = 0.0, 0.0, 0
    for batch in batches_by_length([len(row.input_ids) for row in encoded], batch_size):
        inputs = task.inputs([encoded[i] for i in batch])
        inputs |= prompt_option(attached, task.objective.targets([encoded[i] for i in batch]), inputs["attention_mask"])
        difference = (logits_of(attached, inputs) - logits_of(merged, inputs)).abs()
        values = difference[inputs["attention_mask"].bool()] if difference.ndim == 3 else difference
        largest = float(torch.maximum(torch.tensor(largest), values.max()))  # NaN stays NaN, unlike with max()
        total += float(values.double().sum())
        count += values.numel()
    return {"largest": largest, "mean": total / max(count, 1), "num_rows": len(rows)}


def require_parity(differences: Mapping[str, Any], bound: float, where: str) -> None:
    """Stop when a merged model computes something else than the attached one, or than what was trained.

    Args:
        differences: of `merge_seed`.
        bound: allowed difference; what the training's dtype rounds is allowed in comparing with what was trained.
        where: which run and seed.

    Raises:
        UserError: names the difference and the bound.
    """
    if not differences["largest"] <= bound:
        raise UserError(
            f"{where}: the merged model's logits differ from the attached one's by up to {differences['largest']:.3g}; "
            f"allowed: {bound:g} (merge.parity). "
            "The method does not fold as PEFT says it does, or the bound is too small for this model"
        )
    allowed = max(bound, differences["noise"])
    if not differences["trained"] <= allowed:
        raise UserError(
            f"{where}: the model on disk computes logits that differ from those of the trained model in memory by up "
            f"to {differences['trained']:.3g}; allowed: {allowed:.3g} (merge.parity). "
            "Not all that was trained was saved, or the bound is too small for this model"
        )


def largest_difference(folder: Path) -> float | None:
    """Return the largest difference of logits of all seeds of a run; None of a mixture, which has no parity."""
    path = folder / PARITY
    if not path.is_file():
        return None
    seeds = read_card(path, {}, "merge").values()
    return float(max(max(seed["largest"], seed["trained"]) for seed in seeds))
