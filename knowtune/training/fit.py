"""Train a model by a recipe: seeds, checkpoints and resume, curve, progress; the loss is in `training.trainer`."""

from __future__ import annotations

import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.training.dataset import Rows
from knowtune.training.trainer import KnowledgeTrainer

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.methods.base import Method
    from knowtune.models.compute import Compute
    from knowtune.tasks.base import Task
    from knowtune.training.reweighting import Reweighting


@dataclass(frozen=True)
class Recipe:
    """How to train. Lengths are in optimiser steps, `batch_size` in rows per step and process."""

    epochs: float
    batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    logging_steps: int
    save_steps: int
    load_best_model_at_end: bool


def brief(steps: int, num_rows: int, batch_size: int, learning_rate: float) -> Recipe:
    """Make the recipe of a short training: so many steps at a constant rate."""
    return Recipe(
        epochs=(steps - 0.5) / math.ceil(num_rows / batch_size),  # the Trainer rounds up to a whole step
        batch_size=batch_size,
        gradient_accumulation_steps=1,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_steps=20,
        save_steps=100,
        load_best_model_at_end=False,
    )


class _Watch(TrainerCallback):
    """Keeps the curve, and prints plain progress lines where there is no terminal."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.curve: list[dict[str, float | int | str]] = []
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.disable_tqdm and time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(f"{self.label}: step {state.global_step} of {state.max_steps}", file=sys.stderr, flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.disable_tqdm:
            print(f"{self.label}: checkpoint at step {state.global_step}", file=sys.stderr, flush=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.curve = [
            {"step": entry["step"], "split": split, "loss": float(entry[key])}
            for entry in state.log_history
            for key, split in (("loss", "train"), ("eval_loss", "validation"))
            if key in entry
        ]


@dataclass(frozen=True)
class Fitted:
    """What a training leaves: the model, its curve, and counts."""

    model: torch.nn.Module
    curve: list[dict[str, float | int | str]]
    num_steps: int
    num_trainable: int
    num_parameters: int


def fit(
    model: torch.nn.Module,
    rows: Rows,
    validation: Rows | None,
    recipe: Recipe,
    compute: Compute,
    task: Task,
    *,
    seed: int,
    work: Path,
    method: Method | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    reweighting: Reweighting | None = None,
    label: str = "training",
) -> Fitted:
    """Train `model` on `rows` and return it in evaluation mode.

    Args:
        model: with the parameters that are to move requiring gradients.
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
        label: what progress lines call this training.

    Raises:
        UserError: no trainable parameter, no row, no learned token, or a non-finite loss.
    """
    num_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if num_trainable == 0:
        raise UserError(f"{label}: no parameter is trainable; check target_modules and the mask")
    if len(rows) == 0:
        raise UserError(f"{label}: no training row is left; look at the filter's dropped rows")
    if not any(row.num_learned for row in rows.rows):
        raise UserError(f"{label}: no row has a token to learn; look at the targets")
    device = compute.resolved_device()
    steps_per_epoch = math.ceil(len(rows) / (recipe.batch_size * recipe.gradient_accumulation_steps))
    resumes = method is None or method.resumes
    arguments = TrainingArguments(
        output_dir=str(work / "checkpoints"),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="epoch" if recipe.load_best_model_at_end else "steps" if resumes else "no",
        # The Trainer forgets a half-averaged loss on resume, so a checkpoint falls where a loss has just been logged.
        save_steps=math.ceil(recipe.save_steps / recipe.logging_steps) * recipe.logging_steps,
        logging_strategy="epoch" if recipe.load_best_model_at_end else "steps",
        save_total_limit=1,
        eval_strategy="no" if validation is None else "epoch",
        load_best_model_at_end=recipe.load_best_model_at_end,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        log_level="error",
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        bf16=device == "cuda" and compute.resolved_dtype() is torch.bfloat16,
        dataloader_pin_memory=device == "cuda",
    )
    watch = _Watch(label)
    trainer = KnowledgeTrainer(
        task=task,
        method=method,
        rows=rows,
        reweighting=reweighting,
        model=model,
        args=arguments,
        eval_dataset=validation,
        optimizers=(optimizer, None),
        callbacks=[watch, *([reweighting] if reweighting is not None else [])],
    )
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ == "PrinterCallback":  # its dicts would drown the plain progress lines
            trainer.remove_callback(callback)
    print(f"{label}: {len(rows)} rows, {steps_per_epoch} steps an epoch, {num_trainable:,} trainable", file=sys.stderr)
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one device a process; several are a launcher's business
    place = work / "checkpoints"
    _drop_broken(place, reweighting)
    if not resumes:
        shutil.rmtree(place, ignore_errors=True)  # load_best_model_at_end wrote checkpoints for itself alone
    checkpoint: str | None = get_last_checkpoint(str(place)) if place.is_dir() else None
    if checkpoint:
        print(f"{label}: goes on from {Path(checkpoint).name}", file=sys.stderr)
        if reweighting is not None:
            reweighting.load(Path(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
        raise UserError(f"{label}: the last step left weights that are not finite; lower the learning rate")
    return Fitted(
        model=model.eval(),
        curve=watch.curve,
        num_steps=trainer.state.global_step,
        num_trainable=num_trainable,
        num_parameters=sum(p.numel() for p in model.parameters()),
    )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    base: Base,
    label: str,
    virtual_tokens: int = 0,
) -> Rows:
    """Tokenise rows, each of weight 1; one that is too long or teaches nothing stops the run.

    Args:
        tokenizer: the base's.
        rows: of the data contract.
        base: whose context and task decide.
        label: for messages.
        virtual_tokens: positions of the context that the method takes.
    """
    encoded = base.task.encode(tokenizer, rows)
    ids = rows["id"].tolist()
    long = [
        row_id for row_id, row in zip(ids, encoded, strict=True) if len(row.input_ids) > base.context - virtual_tokens
    ]
    empty = [row_id for row_id, row in zip(ids, encoded, strict=True) if not row.num_learned]
    less = f", of which the method's virtual tokens take {virtual_tokens}" if virtual_tokens else ""
    for fault, found in (
        (f"longer than the base's context of {base.context} tokens{less}", long),
        ("without anything to learn", empty),
    ):
        if found:
            raise UserError(
                f"{label}: {len(found)} rows are {fault}, e.g. {found[0]!r}; use a selection whose filter has `clean`"
            )
    return Rows(encoded, [1.0] * len(ids), ids)


def _drop_broken(checkpoints: Path, reweighting: Reweighting | None) -> None:
    """Remove a checkpoint that was not written to its end (killed, disk full); the one before it is still there."""
    for folder in checkpoints.glob("checkpoint-*"):
        try:
            read_json(folder / "trainer_state.json")  # the Trainer writes it last
            if reweighting is not None:
                reweighting.read(folder)
        except (OSError, ValueError, SafetensorError):
            shutil.rmtree(folder, ignore_errors=True)  # several processes may find it


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch. Call it before an adapter is made, not after."""
    set_seed(seed)
