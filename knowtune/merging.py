"""Merged models: plain transformers checkpoints where the method folds, else composed artefacts; opened by one call.

A composed artefact is the adapter itself with `composed.json`, which names the method that puts it onto the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.artefacts import read_json, write_json
from knowtune.base import ADAPTER_CARD, COMPOSED, MERGED, Base, Compute, load_model, require_same_base
from knowtune.encoding import batches_by_length, encode_rows
from knowtune.errors import UserError
from knowtune.evaluation import forward
from knowtune.families import member_class
from knowtune.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.families import Method


def merge_seed(method: Method, adapter: Path, base: Base, folder: Path) -> torch.nn.Module:
    """Merge one trained seed and write it.

    Args:
        method: the run's method.
        adapter: the trained seed's folder.
        base: the base it was trained on.
        folder: where the merged model goes.

    Returns:
        The merged model as read back from disk, so that what is measured is what is kept.
    """
    card = read_json(adapter / ADAPTER_CARD)
    folder.mkdir(parents=True, exist_ok=True)
    if method.folds:
        # Folding is done in float32 on unquantised weights, whatever the training ran in.
        exact = Base(base.card, base.folder, Compute(base.compute.device, "float32", "none", base.compute.threads))
        merged: Any = method.fold(load_seed(method, adapter, exact))
        merged.to(dtype=base.compute.resolved_dtype()).save_pretrained(folder)
        base.tokenizer().save_pretrained(folder)
        kind = "folded"
    else:
        for file in sorted(adapter.iterdir()):
            if file.name != "curve.csv":
                shutil.copyfile(file, folder / file.name)
        write_json(folder / COMPOSED, {"method": card["method"], "options": card["options"]})
        kind = "composed"
    write_json(folder / MERGED, {"kind": kind, "base_digest": base.digest, "weights_digest": card["weights_digest"]})
    return open_merged(folder, base)


def load_seed(method: Method, folder: Path, base: Base) -> torch.nn.Module:
    """Load one trained seed onto a pristine base, attached, in evaluation mode."""
    require_same_base(read_json(folder / ADAPTER_CARD)["base_digest"], base, folder)
    return method.load(base.model(), folder).eval()


@torch.inference_mode()
def parity(
    attached: torch.nn.Module,
    merged: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    batch_size: int,
) -> dict[str, float | int]:
    """Measure how far the merged model's logits lie from the attached one's on held-out rows.

    Returns:
        largest and mean absolute difference over all real tokens, and on how many rows.
    """
    ids = [row.input_ids for row in encode_rows(tokenizer, rows["prompt"], rows["target"])]
    largest, total, count = 0.0, 0.0, 0
    for batch in batches_by_length([len(row) for row in ids], batch_size):
        chosen = [ids[i] for i in batch]
        difference = (forward(attached, chosen) - forward(merged, chosen)).abs()
        real = torch.tensor([[i < len(row) for i in range(difference.shape[1])] for row in chosen])
        values = difference[real]
        largest = float(torch.maximum(torch.tensor(largest), values.max()))  # NaN stays NaN, unlike with max()
        total += float(values.double().sum())
        count += values.numel()
    return {"largest": largest, "mean": total / count, "num_rows": len(rows)}


def open_merged(folder: Path, base: Base) -> torch.nn.Module:
    """Load a merged model of either kind, in evaluation mode."""
    require_same_base(read_json(folder / MERGED)["base_digest"], base, folder)
    if (folder / COMPOSED).is_file():
        composed = read_json(folder / COMPOSED)
        method: Method = member_class(METHODS, "method", composed["method"])(**composed["options"])
        return method.load(base.model(), folder).eval()
    return load_model(folder, base.compute)


def require_parity(found: Mapping[str, Any], bound: float, where: str) -> None:
    """Stop when a merged model computes something else than the attached one.

    Raises:
        UserError: names the difference and the bound.
    """
    if not found["largest"] <= bound:
        raise UserError(
            f"{where}: the merged model's logits differ from the attached one's by up to {found['largest']:.3g}; "
            f"allowed: {bound:g} (merge.parity). Merge in float32, or raise the bound if this is what bfloat16 costs"
        )
