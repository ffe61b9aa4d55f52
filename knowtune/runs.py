"""One run, one seed: from selected rows to an adapter folder with its card and curve.

An adapter folder holds what the method saved, `knowtune.json` (base, method, seed, counts, digest of the weights) and
`curve.csv` (step, split, loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.artefacts import file_digest, text_digest, write_json
from knowtune.base import ADAPTER_CARD
from knowtune.errors import UserError
from knowtune.trainer import Rows
from knowtune.training import Recipe, fit, seed_everything

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.base import Base
    from knowtune.families import Method


@dataclass(frozen=True)
class Job:
    """What one seed of a run needs.

    Args:
        name: the run's name, for messages.
        method_name: as in params.yaml.
        method: the member, with its options.
        recipe: how to train.
        seed: of adapter, order and dropout.
        rows: selected rows, of which those to train on have `chosen` true or `train_on` is "all".
        weights: one loss weight per row, mean 1.
        validation: rows for the validation loss.
        mask: parameter mask, or None.
    """

    name: str
    method_name: str
    method: Method
    recipe: Recipe
    seed: int
    rows: pd.DataFrame
    weights: pd.Series[float]
    validation: pd.DataFrame
    mask: dict[str, torch.Tensor] | None


def train_seed(job: Job, base: Base, folder: Path, work: Path) -> None:
    """Train one seed and write its adapter folder.

    Raises:
        UserError: a row is longer than the base's context, nothing to train, a non-finite loss, an empty adapter.
    """
    tokenizer = base.tokenizer()
    label = f"train {job.name}, seed {job.seed}"
    seed_everything(job.seed)  # before the adapter exists: its random start is part of the result
    model = job.method.attach(base.model(), job.mask)
    fitted = fit(
        model,
        _encode(tokenizer, job.rows, job.weights, base, label),
        _encode(tokenizer, job.validation, pd.Series(1.0, index=job.validation.index), base, label)
        if len(job.validation)
        else None,
        job.recipe,
        base.compute,
        base.task,
        seed=job.seed,
        work=work,
        method=job.method,
        label=label,
    )
    folder.mkdir(parents=True, exist_ok=True)
    job.method.save(fitted.model, folder)
    weights = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    validation = [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
    write_json(
        folder / ADAPTER_CARD,
        {
            "base": base.card["identity"],
            "base_digest": base.digest,
            "task": {"kind": type(base.task).__name__.lower(), **base.task.model_dump(mode="json")},
            "example": job.rows.iloc[0][["prompt", "text_pair"]].to_dict(),
            "method": job.method_name,
            "options": job.method.model_dump(mode="json"),
            "seed": job.seed,
            "num_rows": len(job.rows),
            "num_steps": fitted.num_steps,
            "num_trainable": fitted.num_trainable,
            "num_parameters": fitted.num_parameters,
            "validation_loss": min(validation)
            if job.recipe.keep_best and validation
            else (validation[-1] if validation else None),
            "weights_digest": text_digest(weights),
        },
    )
    pd.DataFrame(fitted.curve, columns=["step", "split", "loss"]).to_csv(folder / "curve.csv", index=False)


def _encode(
    tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, weights: pd.Series[float], base: Base, label: str
) -> Rows:
    """Tokenise rows; one that is too long or teaches nothing stops the run. Cutting it would teach half a fact."""
    encoded = base.task.encode(tokenizer, rows)
    ids = rows["id"].tolist()
    long = [row_id for row_id, row in zip(ids, encoded, strict=True) if len(row.input_ids) > base.context]
    empty = [row_id for row_id, row in zip(ids, encoded, strict=True) if not row.num_learned]
    for fault, found in (
        (f"longer than the base's context of {base.context} tokens", long),
        ("without anything to learn", empty),
    ):
        if found:
            raise UserError(
                f"{label}: {len(found)} rows are {fault}, e.g. {found[0]!r}; use a selection whose filter has `clean`"
            )
    return Rows(encoded, weights.tolist(), ids)
