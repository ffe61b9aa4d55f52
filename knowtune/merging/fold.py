"""Merged models: plain transformers checkpoints where the method folds, else composed artefacts; opened by one call.

A composed artefact is the adapter itself with `composed.json`, which names the method that puts it onto the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.checkpoints.base import Base, load_model, require_same_base
from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED, MERGED, for_serving
from knowtune.checkpoints.save import write_checkpoint
from knowtune.common.errors import UserError
from knowtune.common.files import read_card, write_json
from knowtune.merging.parity import parity
from knowtune.methods import METHODS
from knowtune.models.checkpoint_files import first_line
from knowtune.registry import member_class
from knowtune.training.outputs import RECORD, recorded_difference

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.methods.base import Method


def merge_seed(
    method: Method, adapter: Path, base: Base, folder: Path, rows: pd.DataFrame, batch_size: int
) -> dict[str, float | int]:
    """Merge one trained seed, write it, read it back, and measure parity.

    Folding and its parity are in float32 on unquantised weights, whatever the training ran in; the checkpoint is then
    written in the base's dtype, and read back from disk it must be what was written, bit for bit. What was trained in
    memory is compared by its record: with the seed put back onto the base that it was trained on, and with the
    checkpoint on disk. Where training and checkpoint are in float32, both must meet it; else the checkpoint is rounded,
    and its difference is recorded but bounds nothing.

    Args:
        method: the run's method.
        adapter: the trained seed's folder.
        base: the base it was trained on.
        folder: where the merged model goes.
        rows: held-out rows for parity.
        batch_size: of the parity's forward passes.

    Returns:
        See `parity`; and `trained`, the largest difference from the record, `rounded`, that of a checkpoint that is not
        in float32 (else None), and `noise`, what the training's own dtype rounds.

    Raises:
        UserError: the weights on disk are not those that were folded, or something cannot be loaded.
    """
    card = seed_card(adapter)
    folder.mkdir(parents=True, exist_ok=True)
    described = {"base_digest": base.digest, "weights_digest": card["weights_digest"], **for_serving(card)}
    judge = partial(parity, task=base.task, tokenizer=base.tokenizer(), rows=rows, batch_size=batch_size)
    attached = load_seed(method, adapter, base)
    trained, scale = recorded_difference(attached, adapter)
    parities: dict[str, Any] = {"noise": 2 * torch.finfo(base.compute.resolved_dtype()).eps * scale, "rounded": None}
    if method.folds:
        exact = base.exact()
        if exact.compute != base.compute:
            attached = load_seed(method, adapter, exact)
        merged = method.fold(load_seed(method, adapter, exact))
        parities |= judge(attached, merged)
        del attached
        written: torch.nn.Module = write_checkpoint(merged, base, folder)
        write_json(folder / MERGED, {"kind": "folded", **described})
    else:
        for file in sorted(adapter.iterdir()):
            if file.name not in ("curve.csv", RECORD):
                shutil.copyfile(file, folder / file.name)
        write_json(folder / COMPOSED, {"method": card["method"], "options": card["options"]})
        write_json(folder / MERGED, {"kind": "composed", **described})
        written = open_merged(folder, base)
        parities |= judge(attached, written)
    on_disk, _ = recorded_difference(written, adapter)
    if method.folds and exact.compute != base.compute:
        parities["rounded"] = on_disk
    else:
        trained = float(torch.tensor([trained, on_disk]).max())  # NaN stays NaN, unlike with max()
    return {**parities, "trained": trained}


def seed_card(folder: Path) -> dict[str, Any]:
    """Read the card of a trained seed."""
    shape = {"base_digest": str, "weights_digest": str, "method": str, "options": dict}
    return read_card(folder / ADAPTER_CARD, shape, "train")


def method_of(card: Mapping[str, Any], path: Path) -> Method:
    """Make the method that a card names.

    Raises:
        UserError: there is no such method, or it has other options.
    """
    try:
        method: Method = member_class(METHODS, "method", card["method"])(**card["options"])
    except ValueError as error:
        raise UserError(f"{path}: names no method of this version ({first_line(error)}); run its stage again") from None
    return method


def load_seed(method: Method, folder: Path, base: Base) -> torch.nn.Module:
    """Load one trained seed onto a pristine base, attached, in evaluation mode."""
    require_same_base(seed_card(folder)["base_digest"], base, folder)
    return method.load(base.model(), folder).eval()


def open_merged(folder: Path, base: Base) -> torch.nn.Module:
    """Load a merged model of either kind, in evaluation mode."""
    require_same_base(read_card(folder / MERGED, {"base_digest": str}, "merge")["base_digest"], base, folder)
    if (folder / COMPOSED).is_file():
        composed = read_card(folder / COMPOSED, {"method": str, "options": dict}, "merge")
        return method_of(composed, folder / COMPOSED).load(base.model(), folder).eval()
    return load_model(folder, replace(base.compute, quantize="none"), base.task, trained=True)
