"""One run, one seed: from selected rows to an adapter folder with its card and curve.

An adapter folder holds what the method saved, `knowtune.json` (base, method, seed, counts, digest of the weights),
`curve.csv` (step, split, loss), `outputs.safetensors` (logits computed in memory: `knowtune.training.outputs`) and,
where rows were weighed, `weights.jsonl` (id, distance, weight as they were last).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from knowtune.checkpoints.cards import ADAPTER_CARD
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, text_digest, write_json, write_rows
from knowtune.methods.base import MaskedMethod
from knowtune.preserve import OPENED
from knowtune.registry import member_class
from knowtune.training.dataset import encode
from knowtune.training.dry_run import dry_run, first_logits
from knowtune.training.fit import Fitted, Training, fit, seed_everything
from knowtune.training.outputs import RECORD, record_outputs
from knowtune.training.phases import fit_phases, split_phases
from knowtune.training.reweighting import Reweighting, open_reweighting

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.methods.base import Method
    from knowtune.preserve.options import Preserve
    from knowtune.preserve.preservation import Preservation
    from knowtune.preserve.sources import Material
    from knowtune.training.recipe import Recipe
    from knowtune.training.reweighting import Plan


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
        validation: rows for the validation loss; the recipe says how many of them are read.
        mask: parameter mask, or None.
        start: folder of the adapter that the mask is of, and that training goes on from; None: the mask is of the base.
        reweight: how rows are weighed by their column `distance`; None: all alike.
        preserve: what is done against forgetting; None: nothing.
        material: the sources that it reads.
        phases: relations that are learned one after the other; None: all rows together.
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
    preserve: Preserve | None = None
    material: Material | None = None
    phases: Sequence[Sequence[str]] | None = None

    @property
    def label(self) -> str:
        """Name the job in lines of progress."""
        return f"train {self.name}, seed {self.seed}"


def train_seed(job: Job, base: Base, folder: Path, work: Path, dry_run_record: Path | None = None) -> None:
    """Train one seed and write its adapter folder.

    Args:
        job: what to train.
        base: on which.
        folder: where the trained seed goes.
        work: folder for checkpoints.
        dry_run_record: a file that is written once this method has passed its dry run on this base: where it lies, no
            other seed of the run needs one. None: each does.

    Raises:
        UserError: a row is longer than the base's context, or in no phase, nothing to train, a non-finite loss, an
            empty adapter; a method that this model cannot be computed or merged with, before anything is trained.
    """
    tokenizer, label = base.tokenizer(), job.label
    phases = None if job.phases is None else split_phases(job.rows, job.phases, f"runs.{job.name}.phases")
    virtual = job.method.num_virtual_tokens(tokenizer)
    rows = encode(tokenizer, job.rows, base, label, virtual)
    plan = job.reweight
    reweighting = None if plan is None else open_reweighting(plan, job.rows, rows, base, tokenizer, label)
    preservation = _open_preservation(job, base, virtual)
    if job.method.inside.is_adapter and not (dry_run_record and dry_run_record.is_file()):
        dry_run(job.method, base, rows, label)
        if dry_run_record:
            write_json(dry_run_record, {"seed": job.seed})
    seed_everything(job.seed)  # before the adapter exists: its random start is part of the result
    model = _attach(job, base, preservation)
    if not job.method.inside.is_adapter:
        with torch.no_grad(), torch.random.fork_rng():
            first_logits(model.eval(), base, rows, f"{label}: the base cannot be computed", "look at its config.json")
    table = spread(job.validation, job.recipe.max_validation)
    validation = encode(tokenizer, table, base, label, virtual) if len(table) else None
    training = Training(
        rows=rows, validation=validation, recipe=job.recipe, compute=base.compute, task=base.task, seed=job.seed,
        work=work, method=job.method, reweighting=reweighting, preservation=preservation, label=label,
    )  # fmt: skip
    fitted = fit(model, training) if phases is None else fit_phases(model, training, phases)
    folder.mkdir(parents=True, exist_ok=True)
    record_outputs(fitted.model, base.task, rows.rows, folder)  # first: saving may make another model of it
    job.method.save(fitted.model, folder)
    write_json(folder / ADAPTER_CARD, _card(job, base, fitted, reweighting, preservation, folder))
    if reweighting is not None:
        write_rows(folder / "weights.jsonl", reweighting.table())
    pd.DataFrame(fitted.curve, columns=["step", "split", "loss"]).to_csv(folder / "curve.csv", index=False)


def spread(rows: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """Take at most so many rows, at equal distances: of all relations, where those stand together."""
    if most is None or len(rows) <= most:
        return rows
    return rows.iloc[[i * len(rows) // most for i in range(most)]]


def _open_preservation(job: Job, base: Base, virtual_tokens: int) -> Preservation | None:
    """Prepare what is done against forgetting."""
    if job.preserve is None:
        return None
    assert job.material is not None, "what a run keeps is read by the stage"
    open_preservation = member_class(OPENED, "part", "preservation")
    opened: Preservation | None = open_preservation(
        job.preserve, job.material, base, job.seed, job.label, virtual_tokens
    )
    return opened


def _attach(job: Job, base: Base, preservation: Preservation | None) -> torch.nn.Module:
    """Attach the method, on what the selection chose where it chose parameters."""
    if job.mask is not None and not isinstance(job.method, MaskedMethod):
        raise UserError(
            f"train {job.name}: {job.method_name} cannot use the parameter mask of its selection; use fish or lora"
        )
    model = base.model()
    if preservation is not None:
        preservation.see_base(model)
    if isinstance(job.method, MaskedMethod) and job.mask is not None:
        attached = job.method.attach_masked(model, job.mask, job.start)
    else:
        attached = job.method.attach(model)
    if preservation is not None:
        preservation.see_attached(attached)
    return attached


def _card(
    job: Job,
    base: Base,
    fitted: Fitted,
    reweighting: Reweighting | None,
    preservation: Preservation | None,
    folder: Path,
) -> dict[str, Any]:
    """Describe a trained seed; the folder holds its weights already."""
    weights = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors")) if path.name != RECORD}
    return {
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
        **({} if preservation is None else {"preserve": preservation.summary()}),
        **({} if job.phases is None else {"phases": [list(phase) for phase in job.phases]}),
        "num_steps": fitted.num_steps,
        "num_trainable": fitted.num_trainable,
        "num_parameters": fitted.num_parameters,
        "validation_loss": _validation_loss(fitted, best=job.recipe.load_best_model_at_end),
        "weights_digest": text_digest(weights),
    }


def _validation_loss(fitted: Fitted, *, best: bool) -> float | None:
    """Give the validation loss of the epoch whose weights are kept: the best one, or the last; None without rows."""
    points = [point for point in fitted.curve if int(point["step"]) > fitted.num_before]
    losses = [float(point["loss"]) for point in points if point["split"] == "validation"]
    if not losses:
        return None
    return min(losses) if best else losses[-1]


def _example(rows: pd.DataFrame) -> dict[str, str]:
    """Give the prompt of the first row; its layout where it has one."""
    first = rows.iloc[0].reindex(["prompt", "text_pair", "layout"], fill_value="")
    return {str(name): str(cell) for name, cell in first.items() if cell or name != "layout"}
