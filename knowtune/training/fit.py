"""Train a model by a recipe. The loss is in `training.trainer`."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from knowtune.common.errors import UserError
from knowtune.training.arguments import training_arguments
from knowtune.training.curve import Curve
from knowtune.training.method_steps import MethodSteps
from knowtune.training.resume import SaveAfterValidation, last_checkpoint
from knowtune.training.trainer import KnowledgeTrainer

if TYPE_CHECKING:
    from knowtune.methods.base import Method
    from knowtune.models.compute import Compute
    from knowtune.preserve.preservation import Preservation
    from knowtune.tasks.base import Task
    from knowtune.training.dataset import Rows
    from knowtune.training.recipe import Recipe
    from knowtune.training.reweighting import Reweighting


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training needs beside the model.

    Args:
        rows: training rows with weights.
        validation: rows for the validation loss, once an epoch; None for none.
        recipe: how to train.
        compute: device and dtype.
        task: which loss.
        seed: order of the rows, dropout.
        work: folder for checkpoints; training goes on from the last one that lies there.
        method: whose penalty and optimiser groups apply.
        optimizer: takes the place of AdamW.
        reweighting: what changes the rows' weights while they are trained on; None for weights that stay.
        preservation: what keeps what the base knew, its teacher chosen; None for nothing.
        steps_before: of earlier phases of the same training.
        rows_before: that were learned in these.
        all_logits: compute the logits of prompts too, which no loss reads: sums end in other last bits without them.
        label: what lines of progress call this training.
    """

    rows: Rows
    recipe: Recipe
    compute: Compute
    task: Task
    seed: int
    work: Path
    validation: Rows | None = None
    method: Method | None = None
    optimizer: torch.optim.Optimizer | None = None
    reweighting: Reweighting | None = None
    preservation: Preservation | None = None
    steps_before: int = 0
    rows_before: int = 0
    all_logits: bool = False
    label: str = "training"

    @property
    def resumes(self) -> bool:
        """Tell whether checkpoints serve to go on from."""
        return self.method is None or self.method.resumes

    @property
    def checkpoints(self) -> Path:
        """Name the folder of checkpoints."""
        return self.work / "checkpoints"


@dataclass(frozen=True)
class Fitted:
    """What a training leaves: the model, its curve (`step`, `split`, `loss`), and counts.

    `num_rows` are those of all its steps, again in each epoch; `num_before` the steps of the phases before the last.
    """

    model: torch.nn.Module
    curve: list[dict[str, float | int | str]]
    num_steps: int
    num_rows: int
    num_trainable: int
    num_parameters: int
    num_before: int = 0


def fit(model: torch.nn.Module, training: Training) -> Fitted:
    """Train `model` and return it in evaluation mode.

    Args:
        model: with the parameters that are to move requiring gradients.
        training: on what, how, and from where.

    Raises:
        UserError: no trainable parameter, no row, no target token, or a non-finite loss.
    """
    rows, recipe, label = training.rows, training.recipe, training.label
    num_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    _require_learnable(num_trainable, rows, label)
    curve = Curve(label, training.method)
    trainer = _trainer(model, training, curve)
    steps_per_epoch = math.ceil(len(rows) / (recipe.batch_size * recipe.gradient_accumulation_steps))
    print(f"{label}: {len(rows)} rows, {steps_per_epoch} steps an epoch, {num_trainable:,} trainable", file=sys.stderr)
    checkpoint = _checkpoint(training)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
        raise UserError(f"{label}: the last step left weights that are not finite; lower the learning rate")
    return Fitted(
        model=model.eval(),
        curve=curve.points,
        num_steps=trainer.state.global_step,
        num_rows=trainer.rows_in(trainer.state.global_step),
        num_trainable=num_trainable,
        num_parameters=sum(p.numel() for p in model.parameters()),
    )


def _require_learnable(num_trainable: int, rows: Rows, label: str) -> None:
    """Stop where there is nothing to train, or nothing to learn."""
    if num_trainable == 0:
        raise UserError(f"{label}: no parameter is trainable; check target_modules and the mask")
    if len(rows) == 0:
        raise UserError(f"{label}: no training row is left; look at the filter's dropped rows")
    if not rows.num_learned:
        raise UserError(f"{label}: no row has a token to learn; look at the targets")


def _trainer(model: torch.nn.Module, training: Training, curve: Curve) -> KnowledgeTrainer:
    """Make the Trainer."""
    trainer = KnowledgeTrainer(
        task=training.task,
        method=training.method,
        rows=training.rows,
        reweighting=training.reweighting,
        preservation=training.preservation,
        steps_before=training.steps_before,
        rows_before=training.rows_before,
        length_window=training.recipe.length_window,
        all_logits=training.all_logits,
        model=model,
        args=training_arguments(
            training.recipe,
            training.compute,
            training.checkpoints,
            seed=training.seed,
            validation=training.validation,
            resumes=training.resumes,
        ),
        eval_dataset=training.validation,
        optimizers=(training.optimizer, None),
        callbacks=[
            curve,
            SaveAfterValidation(),
            *([] if training.method is None else [MethodSteps(training.method)]),
            *(each for each in (training.reweighting, training.preservation) if each is not None),
        ],
    )
    trainer.remove_callback(PrinterCallback)  # its dicts would drown the plain lines of progress
    return trainer


def _checkpoint(training: Training) -> Path | None:
    """Find the checkpoint to go on from, with the weights of rows that it was made with."""
    if not training.resumes:
        shutil.rmtree(training.checkpoints, ignore_errors=True)  # the best epoch was kept for its training alone
    checkpoint = last_checkpoint(training.checkpoints, training.reweighting)
    if checkpoint is not None:
        print(f"{training.label}: goes on from {checkpoint.name}", file=sys.stderr)
        if training.reweighting is not None:
            training.reweighting.load(checkpoint)
    return checkpoint


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch. Call it before an adapter is made, not after."""
    set_seed(seed)
