"""Merged models: plain transformers checkpoints where the method folds, else composed artefacts; opened by one call.

A composed artefact is the adapter itself with `composed.json`, which names the method that puts it onto the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.artefacts import read_json, write_json
from knowtune.base import ADAPTER_CARD, COMPOSED, MERGED, Base, load_model, require_same_base
from knowtune.encoding import batches_by_length
from knowtune.errors import UserError
from knowtune.evaluation import logits_of
from knowtune.families import member_class
from knowtune.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.families import Method, Task


def merge_seed(
    method: Method, adapter: Path, base: Base, folder: Path, rows: pd.DataFrame, batch_size: int
) -> dict[str, float | int]:
    """Merge one trained seed, write it, and measure parity.

    Folding and its parity are in float32 on unquantised weights, whatever the training ran in; the checkpoint is then
    written in the base's dtype.

    Args:
        method: the run's method.
        adapter: the trained seed's folder.
        base: the base it was trained on.
        folder: where the merged model goes.
        rows: held-out rows for parity.
        batch_size: of the parity's forward passes.

    Returns:
        See `parity`.
    """
    card = read_json(adapter / ADAPTER_CARD)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = base.tokenizer()
    described = {"base_digest": base.digest, "weights_digest": card["weights_digest"]}
    if method.folds:
        merged: Any = method.fold(load_seed(method, adapter, base.exact()))
        found = parity(load_seed(method, adapter, base.exact()), merged, base.task, tokenizer, rows, batch_size)
        merged.to(dtype=base.compute.resolved_dtype()).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / MERGED, {"kind": "folded", **described})
        return found
    for file in sorted(adapter.iterdir()):
        if file.name != "curve.csv":
            shutil.copyfile(file, folder / file.name)
    write_json(folder / COMPOSED, {"method": card["method"], "options": card["options"]})
    write_json(folder / MERGED, {"kind": "composed", **described})
    return parity(load_seed(method, adapter, base), open_merged(folder, base), base.task, tokenizer, rows, batch_size)


def load_seed(method: Method, folder: Path, base: Base) -> torch.nn.Module:
    """Load one trained seed onto a pristine base, attached, in evaluation mode."""
    require_same_base(read_json(folder / ADAPTER_CARD)["base_digest"], base, folder)
    return method.load(base.model(), folder).eval()


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
        difference = (logits_of(attached, inputs) - logits_of(merged, inputs)).abs()
        values = difference[inputs["attention_mask"].bool()] if difference.ndim == 3 else difference
        largest = float(torch.maximum(torch.tensor(largest), values.max()))  # NaN stays NaN, unlike with max()
        total += float(values.double().sum())
        count += values.numel()
    return {"largest": largest, "mean": total / max(count, 1), "num_rows": len(rows)}


def open_merged(folder: Path, base: Base) -> torch.nn.Module:
    """Load a merged model of either kind, in evaluation mode."""
    require_same_base(read_json(folder / MERGED)["base_digest"], base, folder)
    if (folder / COMPOSED).is_file():
        composed = read_json(folder / COMPOSED)
        method: Method = member_class(METHODS, "method", composed["method"])(**composed["options"])
        return method.load(base.model(), folder).eval()
    return load_model(folder, replace(base.compute, quantize="none"), base.task)


def require_parity(found: Mapping[str, Any], bound: float, where: str) -> None:
    """Stop when a merged model computes something else than the attached one.

    Raises:
        UserError: names the difference and the bound.
    """
    if not found["largest"] <= bound:
        raise UserError(
            f"{where}: the merged model's logits differ from the attached one's by up to {found['largest']:.3g}; "
            f"allowed: {bound:g} (merge.parity). "
            "The method does not fold as PEFT says it does, or the bound is too small for this model"
        )
