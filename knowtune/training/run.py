"""One run, one seed: from selected rows to an adapter folder with its card and curve.

An adapter folder holds what the method saved, `knowtune.json` (base, method, seed, counts, digest of the weights),
`curve.csv` (step, split, loss), `outputs.safetensors` (what the model said in memory: `knowtune.training.outputs`)
and, where rows were weighed, `weights.jsonl` (id, distance, weight as they were last).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from knowtune.checkpoints.cards import ADAPTER_CARD
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, text_digest, write_json, write_rows
from knowtune.methods.base import MaskedMethod
from knowtune.models.checkpoint_files import first_line
from knowtune.models.forward import logits_of
from knowtune.training.fit import Recipe, encode, fit, seed_everything
from knowtune.training.outputs import RECORD, record_outputs
from knowtune.training.reweighting import open_reweighting

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.methods.base import Method
    from knowtune.training.dataset import Rows
    from knowtune.training.reweighting import Plan

MOVED = 0.01  # how far a rehearsal moves what would be trained


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
        validation: rows for the validation loss.
        mask: parameter mask, or None.
        start: folder of the adapter that the mask is of, and that training goes on from; None: the mask is of the base.
        reweight: how rows are weighed by their column `distance`; None: all alike.
    """

    name: str
    method_name: str
    method: Method
    recipe: Recipe
    seed: int
    rows: pd.DataFrame
    validation: pd.DataFrame
    mask: Mapping[str, torch.Tensor] | None
    start: Path | None = None
    reweight: Plan | None = None


def train_seed(job: Job, base: Base, folder: Path, work: Path, rehearsed: Path | None = None) -> None:
    """Train one seed and write its adapter folder.

    Args:
        job: what to train.
        base: on which.
        folder: where the trained seed goes.
        work: folder for checkpoints.
        rehearsed: a file that says that this method has been rehearsed on this base, so that the run's other seeds need
            not do so again; None: it is.

    Raises:
        UserError: a row is longer than the base's context, nothing to train, a non-finite loss, an empty adapter; a
            method that this model cannot be computed or merged with, before anything is trained.
    """
    tokenizer = base.tokenizer()
    label = f"train {job.name}, seed {job.seed}"
    virtual = int((job.method.model_extra or {}).get("num_virtual_tokens") or 0)
    rows = encode(tokenizer, job.rows, base, label, virtual)
    reweighting = (
        None if job.reweight is None else open_reweighting(job.reweight, job.rows, rows, base, tokenizer, label)
    )
    if job.method.is_adapter and not (rehearsed and rehearsed.is_file()):
        rehearse(job.method, base, rows, label)
        if rehearsed:
            write_json(rehearsed, {"seed": job.seed})
    seed_everything(job.seed)  # before the adapter exists: its random start is part of the result
    model = _attach(job, base)
    if not job.method.is_adapter:
        with torch.no_grad(), torch.random.fork_rng():
            _first_logits(model.eval(), base, rows, f"{label}: the base cannot be computed", "look at its config.json")
    fitted = fit(
        model,
        rows,
        encode(tokenizer, job.validation, base, label, virtual) if len(job.validation) else None,
        job.recipe,
        base.compute,
        base.task,
        seed=job.seed,
        work=work,
        method=job.method,
        reweighting=reweighting,
        label=label,
    )
    folder.mkdir(parents=True, exist_ok=True)
    record_outputs(fitted.model, base.task, rows.rows, folder)  # first: saving may make another model of it
    job.method.save(fitted.model, folder)
    weights = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors")) if path.name != RECORD}
    validation = [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
    write_json(
        folder / ADAPTER_CARD,
        {
            "base": base.card["identity"],
            "base_digest": base.digest,
            "task": {"kind": type(base.task).__name__.lower(), **base.task.model_dump(mode="json")},
            "example": _example(job.rows),
            "method": job.method_name,
            "options": job.method.model_dump(mode="json"),
            "seed": job.seed,
            "num_rows": len(job.rows),
            "reweight": None
            if reweighting is None
            else {**reweighting.weighting.model_dump(mode="json"), **reweighting.summary()},
            "num_steps": fitted.num_steps,
            "num_trainable": fitted.num_trainable,
            "num_parameters": fitted.num_parameters,
            "validation_loss": min(validation)
            if job.recipe.load_best_model_at_end and validation
            else (validation[-1] if validation else None),
            "weights_digest": text_digest(weights),
        },
    )
    if reweighting is not None:
        write_rows(folder / "weights.jsonl", reweighting.table())
    pd.DataFrame(fitted.curve, columns=["step", "split", "loss"]).to_csv(folder / "curve.csv", index=False)


def _attach(job: Job, base: Base) -> torch.nn.Module:
    """Attach the method, on what the selection chose where it chose parameters."""
    if job.mask is None:
        return job.method.attach(base.model())
    if not isinstance(job.method, MaskedMethod):
        raise UserError(f"train {job.name}: {job.method_name} cannot use the parameter mask of its selection; use fish")
    return job.method.attach_masked(base.model(), job.mask, job.start)


@torch.inference_mode()
def rehearse(method: Method, base: Base, rows: Rows, label: str) -> None:
    """Attach, compute the shortest row and fold, with values as if trained, so that what cannot be fails at once.

    Numbers are compared in float32 alone, in which folding is done; 4-bit weights are not folded.

    Raises:
        UserError: the method cannot be computed on this model, does not fold, or folds to another model.
    """
    with torch.inference_mode(False):
        model = method.attach(base.model()).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += MOVED * torch.randn_like(parameter)
    remedy = "change other layers of it (target_modules), or take another method"
    attached = _first_logits(model, base, rows, f"{label}: the base cannot be computed with this method", remedy)
    if not method.folds or base.compute.quantize != "none":
        return
    with torch.inference_mode(False):
        folded = method.fold(model)
    merged = _first_logits(folded, base, rows, f"{label}: merged, this method cannot be computed on this base", remedy)
    found = float((merged - attached).abs().max())
    folded.to("meta")  # type: ignore[arg-type]  # gives its memory back at once; PEFT's models hold on to themselves
    if base.compute.resolved_dtype() is torch.float32 and found > max(0.01, 1e-3 * float(attached.abs().max())):
        raise UserError(
            f"{label}: merged, this method would compute something else on this base than trained, by {found:.2g} in a "
            "logit, even before training; use other options or another method"
        )


def _first_logits(model: torch.nn.Module, base: Base, rows: Rows, what: str, remedy: str) -> torch.Tensor:
    """Compute the shortest row.

    Raises:
        UserError: it cannot be; says what it is that cannot, why, and a remedy.
    """
    try:
        return logits_of(model, base.task.inputs([min(rows.rows, key=lambda row: len(row.input_ids))]))
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, NotImplementedError) as error:
        raise UserError(f"{what}: {first_line(error)}; {remedy}") from error


def _example(rows: pd.DataFrame) -> dict[str, str]:
    """Give what the first row asks; its layout where it has one."""
    first = rows.iloc[0].reindex(["prompt", "text_pair", "layout"], fill_value="")
    return {str(name): str(cell) for name, cell in first.items() if cell or name != "layout"}
