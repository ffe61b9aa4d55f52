"""Merged models: plain transformers checkpoints where the method folds, else composed artefacts; opened by one call.

A composed artefact is the adapter itself with `composed.json`, which names the method that puts it onto the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.artefacts import read_json, text_digest, write_json
from knowtune.base import ADAPTER_CARD, Base, Compute, load_model, require_same_base
from knowtune.encoding import batches_by_length, encode_rows
from knowtune.errors import UserError
from knowtune.evaluation import forward
from knowtune.families import Mixture, member_class
from knowtune.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.families import Method

COMPOSED = "composed.json"
MERGED = "merged.json"


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
        largest = max(largest, float(values.max()))
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


def mix(
    member: Mixture, folders: list[Path], weights: list[float], base: Base, folder: Path, seed: int
) -> dict[str, float]:
    """Mix merged models by their changes against the base, one tensor at a time, and write a plain checkpoint.

    Args:
        member: how to combine.
        folders: one merged model per run.
        weights: one per model; normalised to sum 1.
        base: the common base.
        folder: where the mixture goes.
        seed: for what is random in the mixture.

    Returns:
        The L2 norm of each model's change and of the mixture's.

    Raises:
        UserError: a model is composed, or of another base.
    """
    from safetensors import safe_open

    for source in folders:
        if (source / COMPOSED).is_file():
            raise UserError(f"{source}: a composed artefact has no plain weights to mix; choose a run that folds")
        require_same_base(read_json(source / MERGED)["base_digest"], base, source)
    files: list[list[Any]] = [
        [safe_open(path, framework="pt") for path in sorted(source.glob("*.safetensors"))] for source in folders
    ]
    where = [{key: file for file in group for key in file.keys()} for group in files]  # noqa: SIM118
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    model = base.model()
    squares = [0.0] * (len(folders) + 1)
    for number, (name, parameter) in enumerate(sorted(model.state_dict().items())):
        if not all(name in tensors for tensors in where):
            continue  # tied weights are saved once, under their first name
        origin = parameter.detach().float().cpu()
        changes = [tensors[name].get_tensor(name).float() - origin for tensors in where]
        change = member.combine(changes, share, seed + number)
        for i, tensor in enumerate([*changes, change]):
            squares[i] += float(tensor.double().square().sum())
        parameter.copy_(origin + change)
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)
    digests = [read_json(source / MERGED)["weights_digest"] for source in folders]
    write_json(folder / MERGED, {"kind": "mixed", "base_digest": base.digest, "weights_digest": text_digest(digests)})
    names = [source.parent.name for source in folders]
    return {name: value**0.5 for name, value in zip([*names, "mixture"], squares, strict=True)}


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
