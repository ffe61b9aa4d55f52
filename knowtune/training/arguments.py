"""From a recipe to transformers' TrainingArguments."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import TrainingArguments

from knowtune.training.recipe import Recipe

if TYPE_CHECKING:
    from knowtune.models.compute import Compute
    from knowtune.training.dataset import Rows

OURS = {"max_validation", "length_window"}
PASSED_ON = set(Recipe.model_fields) - {"epochs", "batch_size", "save_steps", *OURS}  # under their names, as they are
VALIDATED = 1024  # tokens that a batch of the validation may have in any case: fewer make it slow


def training_arguments(
    recipe: Recipe, compute: Compute, checkpoints: Path, *, seed: int, validation: Rows | None, resumes: bool
) -> TrainingArguments:
    """Make the Trainer's arguments.

    Args:
        recipe: how to train.
        compute: device and dtype.
        checkpoints: the folder of checkpoints.
        seed: order of the rows, dropout.
        validation: rows for a validation loss, once an epoch.
        resumes: whether checkpoints serve to go on from; the best one is kept for its epoch in any case.
    """
    device, best = compute.resolved_device(), recipe.load_best_model_at_end
    arguments = TrainingArguments(
        **recipe.model_dump(include=PASSED_ON),
        output_dir=str(checkpoints),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        logging_nan_inf_filter=False,
        logging_strategy="epoch" if best else "steps",
        eval_strategy="no" if validation is None else "epoch",
        save_strategy="epoch" if best else "steps" if resumes else "no",
        # The Trainer forgets a half-averaged loss on resume, so a checkpoint falls where a loss has just been logged.
        save_steps=math.ceil(recipe.save_steps / recipe.logging_steps) * recipe.logging_steps,
        save_total_limit=1,
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
    if validation is not None:
        arguments.per_device_eval_batch_size = _validation_batch(recipe, validation, arguments.world_size)
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one device a process; several are a launcher's business
    return arguments


def _validation_batch(recipe: Recipe, validation: Rows, num_processes: int) -> int:
    """Give the validation rows of a batch: as many as in training, or more short ones, in batches of equal size.

    The Trainer fills the last batches of several processes with rows from the start, which then weigh more.
    """
    most = max(recipe.batch_size, VALIDATED // max(len(row.input_ids) for row in validation.rows))
    num_rounds = math.ceil(len(validation) / (num_processes * most))
    return math.ceil(len(validation) / (num_processes * num_rounds))
